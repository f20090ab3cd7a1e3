//! The people at the fake's pages: what a test lets them do there. Judges nothing (see `sign_in`).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use super::FakeEntra;

/// People in front of the pages: they sign in, consent or decline, without a browser.
impl FakeEntra {
    /// Signs the account in on the page at `url`, or consents as an administrator when it is that page; returns the
    /// address that the browser is sent back to.
    ///
    /// # Panics
    /// When the page would show an error instead: it names the AADSTS code.
    pub fn approve(&self, url: &Url) -> Url {
        self.approve_as(url, &self.account())
    }

    /// Signs in as another account than the one that was meant.
    ///
    /// # Panics
    /// As [`approve`](Self::approve).
    pub fn approve_as(&self, url: &Url, account: &str) -> Url {
        let result = self.endpoint.state().approve(url, account);
        result.unwrap_or_else(|code| panic!("the sign-in page shows AADSTS{code}"))
    }

    /// Declines on the page at `url`; returns the address that the browser is sent back to.
    ///
    /// # Panics
    /// As [`approve`](Self::approve).
    pub fn deny(&self, url: &Url) -> Url {
        let is_consent = url.path().ends_with("/adminconsent");
        self.fail_page(url, if is_consent { "consent_required" } else { "access_denied" }, 65_004)
    }

    /// Lets the page at `url` fail with an `error` and an AADSTS code; returns the address that the browser is sent
    /// back to.
    ///
    /// # Panics
    /// As [`approve`](Self::approve).
    pub fn fail_page(&self, url: &Url, error: &str, code: u32) -> Url {
        let result = self.endpoint.state().decline(url, error, code);
        result.unwrap_or_else(|code| panic!("the sign-in page shows AADSTS{code}"))
    }

    /// Enters a device code and signs the account in; `false` when the code does not work.
    pub fn approve_device(&self, user_code: &str) -> bool {
        let account = self.account();
        self.endpoint.state().decide_device(user_code, Some(&account))
    }

    /// Enters a device code and declines; `false` when the code does not work.
    pub fn deny_device(&self, user_code: &str) -> bool {
        self.endpoint.state().decide_device(user_code, None)
    }

    /// Lets every device code given out so far expire.
    pub fn expire_device_codes(&self) {
        self.endpoint.state().expire_devices();
    }

    /// Answers the next `count` polls with `slow_down`.
    pub fn slow_down_polls(&self, count: usize) {
        self.endpoint.state().sign_ins.slow_downs += count;
    }

    /// Returns every authorization code and device code, for a test that searches logs for them.
    pub fn codes(&self) -> Vec<String> {
        self.endpoint.state().sign_ins.codes()
    }

    /// Opens an `http` address of this machine as a browser does; returns the whole response, headers and page.
    ///
    /// # Errors
    /// When nobody listens there, or the connection is lost.
    pub async fn browse(&self, url: &Url) -> std::io::Result<String> {
        let port = url.port_or_known_default().unwrap_or(80);
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let host = url.host_str().unwrap_or_default();
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        Ok(response)
    }
}
