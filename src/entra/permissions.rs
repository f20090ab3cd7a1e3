//! The permissions an app registration needs, as its manifest writes them. Grants none, asks no server.

use serde_json::json;

/// The app id of Microsoft Graph, under which delegated mail permissions are registered.
const GRAPH: &str = "00000003-0000-0000-c000-000000000000";

/// The delegated permissions with their ids under Graph; each id is valid under this resource only.
const DELEGATED: [&str; 6] = [
    "258f6531-6087-4cc4-bb90-092c5fb3ed3f", // SMTP.Send
    "e1fe6dd8-ba31-4d61-89e7-88639da4683d", // User.Read
    "7427e0e9-2fba-42fe-b0c0-848c9e6a8182", // offline_access
    "37f7f235-527c-4136-accd-4a02d197296e", // openid
    "14dad69e-099b-42c9-810b-d002981feec1", // profile
    "64a6cdd6-aab1-4aaf-94b8-3cc8405e90d0", // email
];

/// Returns the part `requiredResourceAccess` of an app manifest, as JSON, for sending mail as a person who signs in.
///
/// Delegated permissions: `SMTP.Send`, `User.Read`, `offline_access`, `openid`, `profile` and `email`. An administrator
/// pastes it into the app registration, *Manifest*, and consents. For mail sent as the app itself, see
/// [`send_as_app_permission`].
///
/// ```
/// let manifest = smtp_oauth::entra::required_resource_access();
/// assert!(manifest.contains("258f6531-6087-4cc4-bb90-092c5fb3ed3f"));
/// ```
pub fn required_resource_access() -> String {
    let access: Vec<_> = DELEGATED.iter().map(|id| json!({ "id": id, "type": "Scope" })).collect();
    let manifest =
        json!({ "requiredResourceAccess": [{ "resourceAppId": GRAPH, "resourceAccess": access }] });
    format!("{manifest:#}")
}

/// Returns how to add the application permission `SMTP.SendAsApp`.
///
/// Microsoft publishes no id for it, and the ids that circulate are wrong: it is chosen by name, or its id looked up.
pub fn send_as_app_permission() -> &'static str {
    "SMTP.SendAsApp: app registration, API permissions, Add a permission, APIs my organization uses, \
     Office 365 Exchange Online, Application permissions. Its id for a manifest: GET \
     https://graph.microsoft.com/v1.0/servicePrincipals?$filter=appId eq '00000002-0000-0ff1-ce00-000000000000', \
     then the `id` of the entry of `appRoles` whose `value` is SMTP.SendAsApp"
}
