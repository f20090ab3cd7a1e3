//! The names of the metrics, with their units and meanings. Records none.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(super) const SUBMISSIONS: &str = "smtp_oauth_submissions_total";
pub(super) const SUBMISSION_DURATION: &str = "smtp_oauth_submission_duration_seconds";
pub(super) const RECIPIENTS: &str = "smtp_oauth_recipients_total";
pub(super) const MESSAGE_SIZE: &str = "smtp_oauth_message_size_bytes";
pub(super) const RETRIES: &str = "smtp_oauth_retries_total";
pub(super) const QUEUE_WAIT: &str = "smtp_oauth_queue_wait_seconds";
pub(super) const PHASE_DURATION: &str = "smtp_oauth_phase_duration_seconds";
pub(super) const OPENED: &str = "smtp_oauth_connections_opened_total";
pub(super) const FAILED: &str = "smtp_oauth_connections_failed_total";
pub(super) const REUSED: &str = "smtp_oauth_connections_reused_total";
pub(super) const CLOSED: &str = "smtp_oauth_connections_closed_total";
pub(super) const OPEN: &str = "smtp_oauth_connections";
pub(super) const TOKEN_REQUESTS: &str = "smtp_oauth_token_requests_total";
pub(super) const TOKEN_REQUEST_DURATION: &str = "smtp_oauth_token_request_duration_seconds";
pub(super) const TOKEN_VALIDITY: &str = "smtp_oauth_token_validity_seconds";
pub(super) const TOKENS_REFUSED: &str = "smtp_oauth_tokens_refused_total";
pub(super) const CREDENTIAL_EXPIRY: &str = "smtp_oauth_credential_expiry_timestamp_seconds";
pub(super) const LIMIT_WAIT: &str = "smtp_oauth_limit_wait_seconds";
pub(super) const THROTTLED: &str = "smtp_oauth_throttled_total";

pub(super) fn describe() {
    describe_counter!(SUBMISSIONS, Unit::Count, "Submissions that came to their end, by outcome");
    describe_histogram!(SUBMISSION_DURATION, Unit::Seconds, "Time from submit to outcome, waits included");
    describe_counter!(RECIPIENTS, Unit::Count, "Recipients accepted and refused by the mail server");
    describe_histogram!(MESSAGE_SIZE, Unit::Bytes, "Size of submitted messages");
    describe_counter!(RETRIES, Unit::Count, "Further attempts at a submission after a failure that may pass");
    describe_histogram!(QUEUE_WAIT, Unit::Seconds, "Time until a connection might be used");
    describe_histogram!(PHASE_DURATION, Unit::Seconds, "Time of the phases of a session that succeeded");
    describe_counter!(OPENED, Unit::Count, "Connections opened and signed in");
    describe_counter!(FAILED, Unit::Count, "Connections that could not be opened or signed in");
    describe_counter!(REUSED, Unit::Count, "Messages that found an open connection");
    describe_counter!(CLOSED, Unit::Count, "Connections given up, by reason");
    describe_gauge!(OPEN, Unit::Count, "Open connections, in use and idle");
    describe_counter!(TOKEN_REQUESTS, Unit::Count, "Requests to a token provider, by outcome");
    describe_histogram!(TOKEN_REQUEST_DURATION, Unit::Seconds, "Time of a request to a token provider");
    describe_histogram!(TOKEN_VALIDITY, Unit::Seconds, "How long access tokens are valid when they arrive");
    describe_counter!(TOKENS_REFUSED, Unit::Count, "Access tokens that the mail server refused");
    describe_gauge!(
        CREDENTIAL_EXPIRY,
        Unit::Seconds,
        "When a client secret or certificate expires (Unix time)"
    );
    describe_histogram!(LIMIT_WAIT, Unit::Seconds, "Time that submissions waited for the sending limits");
    describe_counter!(THROTTLED, Unit::Count, "Times the mail server said that it is too much");
}
