//! The causes a refusal can have, and what each is about. Recognises none of them.

use std::time::Duration;

/// Why a mail server refused; stable, for programs to match on.
///
/// ```
/// use smtp_oauth::ReplyCause;
///
/// assert!(ReplyCause::ConcurrencyLimit.throttles());
/// assert!(!ReplyCause::SmtpAuthDisabledForTenant.is_temporary());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplyCause {
    /// The sign-in failed and the server keeps the reason to itself (`535 5.7.3`).
    SignInRefused,
    /// Authenticated SMTP is switched off for the whole tenant.
    SmtpAuthDisabledForTenant,
    /// Authenticated SMTP is switched off for the mailbox.
    SmtpAuthDisabledForMailbox,
    /// An authentication policy, or the kind of account, allows no password.
    BasicAuthDisabled,
    /// Microsoft has removed passwords for SMTP (`5.7.30`).
    BasicAuthRetired,
    /// Security defaults allow no password.
    SecurityDefaults,
    /// A Conditional Access policy blocks the sign-in.
    ConditionalAccess,
    /// User name or password is wrong.
    WrongCredentials,
    /// The provider wants a password made for this program alone.
    AppPasswordRequired,
    /// The provider wants its owner to sign in with a browser first.
    BrowserSignInRequired,
    /// Too many wrong passwords; trying again makes it last longer.
    AccountLocked,
    /// The account is blocked or otherwise in a bad state.
    AccountBlocked,
    /// The organization's own sign-in service cannot be reached.
    FederationUnavailable,
    /// The organization's own sign-in service has no HTTPS.
    FederationInsecure,
    /// Some other policy refuses the sign-in (`5.7.139` in words not known here).
    SignInPolicy,
    /// The access token has expired, or will too soon.
    TokenExpired,
    /// The access token lacks the permission to send.
    TokenPermission,
    /// The server does not know the mechanism.
    MechanismUnknown,
    /// The sign-in message is not well-formed.
    MalformedSignIn,
    /// The server wants TLS before this command.
    EncryptionRequired,
    /// The connection's TLS version is too old.
    TlsTooOld,
    /// The server wants a sign-in first.
    NotAuthenticated,
    /// Too many attempts to sign in within a short time.
    SignInRate,
    /// The sign-in service of the mail server is out of order.
    SignInUnavailable,
    /// The server did not understand a command, or not at that point.
    CommandNotUnderstood,
    /// The account may not send as this sender.
    SendAsDenied,
    /// The server could not open the mailbox: an app has no right to it, or not yet (`430 4.2.0`).
    MailboxLogonFailed,
    /// The mailbox that sends is full.
    MailboxFull,
    /// The mailbox that sends does not exist or is switched off.
    SenderUnknown,
    /// The sender's account is blocked as a source of spam.
    SenderBlocked,
    /// The outbound spam filter refuses the message.
    OutboundSpam,
    /// The organization itself blocks the sender or recipient.
    BlockedByOrganization,
    /// The whole tenant, or its address, has a bad reputation.
    TenantBlocked,
    /// The sender's domain is not registered in the tenant.
    DomainUnregistered,
    /// The application is not among those allowed for the account (High Volume Email).
    AppNotAllowed,
    /// The account sends inside the organization only (High Volume Email).
    InternalRecipientsOnly,
    /// More submissions at once than the mailbox may have.
    ConcurrencyLimit,
    /// More messages in a time than the mailbox may send.
    SubmissionRate,
    /// The mailbox has used up its recipients of the day.
    RecipientQuota,
    /// The tenant has used up its external recipients of the day.
    TenantRecipientQuota,
    /// The server slows this address down.
    SourceThrottled,
    /// The server has a fault that passes.
    ServerFault,
    /// The server is overloaded or going down.
    ServerBusy,
    /// The server, or something between, ended the connection.
    ConnectionDropped,
    /// The mail server belongs to another region or tenant.
    WrongServer,
    /// The server does not relay for this client.
    RelayDenied,
    /// The name given in EHLO is not accepted.
    HelloRefused,
    /// The message is larger than allowed.
    MessageTooLarge,
    /// The message has more recipients than allowed.
    TooManyRecipients,
    /// The header From (or Sender) is missing, malformed or not allowed.
    InvalidFrom,
    /// The message breaks the format.
    InvalidMessage,
    /// A policy refuses the content.
    ContentRefused,
    /// The message waited for too long.
    MessageExpired,
    /// An address is not well-formed.
    InvalidAddress,
    /// There is no such recipient.
    RecipientUnknown,
    /// The recipient accepts no mail from this sender.
    RecipientRestricted,
    /// The recipient's mailbox is full, or holds too many items.
    RecipientFull,
    /// The recipient receives too much mail at the moment.
    RecipientBusy,
}

/// What a refusal is about, and so who has to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passes by itself.
    Later,
    /// The sign-in.
    SignIn,
    Tls,
    /// What the client said, or when.
    Protocol,
    /// The client or the tenant as a whole.
    Client,
    Sender,
    Recipients,
    Message,
}

impl ReplyCause {
    /// Tells whether the same submission may succeed later without anybody changing anything.
    pub fn is_temporary(self) -> bool {
        self.verdict() == Verdict::Later
    }

    /// Tells whether the server asks for fewer messages, or fewer at once, from this mailbox.
    pub fn throttles(self) -> bool {
        matches!(
            self,
            Self::ConcurrencyLimit
                | Self::SubmissionRate
                | Self::RecipientQuota
                | Self::TenantRecipientQuota
                | Self::SourceThrottled
                | Self::SignInRate
        )
    }

    /// Returns how long the limit's window is, where the vendor publishes one: sooner is hardly worth an attempt.
    pub(crate) fn window(self) -> Option<Duration> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        match self {
            Self::RecipientQuota | Self::TenantRecipientQuota => Some(DAY),
            Self::SubmissionRate => Some(Duration::from_secs(60)),
            // Not published; an attempt within minutes makes it last longer.
            Self::SignInRate => Some(Duration::from_secs(60 * 60)),
            _ => None,
        }
    }

    pub(crate) fn verdict(self) -> Verdict {
        match self {
            Self::SignInRefused
            | Self::SmtpAuthDisabledForTenant
            | Self::SmtpAuthDisabledForMailbox
            | Self::BasicAuthDisabled
            | Self::BasicAuthRetired
            | Self::SecurityDefaults
            | Self::ConditionalAccess
            | Self::WrongCredentials
            | Self::AppPasswordRequired
            | Self::BrowserSignInRequired
            | Self::AccountLocked
            | Self::AccountBlocked
            | Self::FederationInsecure
            | Self::SignInPolicy
            | Self::TokenExpired
            | Self::TokenPermission
            | Self::AppNotAllowed
            | Self::MechanismUnknown
            | Self::NotAuthenticated => Verdict::SignIn,
            Self::TlsTooOld | Self::EncryptionRequired => Verdict::Tls,
            Self::MalformedSignIn | Self::CommandNotUnderstood => Verdict::Protocol,
            Self::FederationUnavailable
            | Self::SignInRate
            | Self::SignInUnavailable
            | Self::MailboxLogonFailed
            | Self::ConcurrencyLimit
            | Self::SubmissionRate
            | Self::RecipientQuota
            | Self::TenantRecipientQuota
            | Self::SourceThrottled
            | Self::ServerFault
            | Self::ServerBusy
            | Self::ConnectionDropped
            | Self::RecipientBusy => Verdict::Later,
            Self::TenantBlocked | Self::WrongServer | Self::RelayDenied | Self::HelloRefused => {
                Verdict::Client
            }
            Self::SendAsDenied
            | Self::MailboxFull
            | Self::SenderUnknown
            | Self::SenderBlocked
            | Self::OutboundSpam
            | Self::DomainUnregistered => Verdict::Sender,
            Self::InternalRecipientsOnly
            | Self::BlockedByOrganization
            | Self::TooManyRecipients
            | Self::InvalidAddress
            | Self::RecipientUnknown
            | Self::RecipientRestricted
            | Self::RecipientFull => Verdict::Recipients,
            Self::MessageTooLarge
            | Self::InvalidFrom
            | Self::InvalidMessage
            | Self::ContentRefused
            | Self::MessageExpired => Verdict::Message,
        }
    }
}
