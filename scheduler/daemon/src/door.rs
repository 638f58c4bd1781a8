//! Who may come in: the listen address, the token, and their checks on gRPC and HTTP, shared by all listeners.
//!
//! Invariant: nothing listens on an address that other machines reach unless a token guards it.
//! Invariant: a token is never printed, neither by `Debug` nor in an error.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;
use tonic::Status;
use tonic::service::Interceptor;

/// The shared secret of one cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// Reads a token from a file, without the white space around it.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read_to_string(path).map_err(|source| TokenError::Read { path: path.into(), source })?;
        Self::new(&text).ok_or_else(|| TokenError::Unfit { path: path.into() })
    }

    /// A token from text; `None` if it is empty or cannot stand in a header.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.into()))
    }

    /// The secret itself, for those who must show it in another way than the helpers here do.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The value of the `authorization` header that shows this token.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Takes as long whichever byte differs, so that a token cannot be guessed byte by byte.
    fn is(&self, shown: &str) -> bool {
        let (own, shown) = (self.0.as_bytes(), shown.as_bytes());
        let mut differs = u8::from(own.len() != shown.len());
        for (at, byte) in own.iter().enumerate() {
            differs |= byte ^ shown.get(at).copied().unwrap_or(0);
        }
        std::hint::black_box(differs) == 0
    }

    fn is_shown_in(&self, headers: &HeaderMap) -> bool {
        headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .is_some_and(|(scheme, shown)| match scheme.to_ascii_lowercase().as_str() {
                "bearer" => self.is(shown.trim()),
                "basic" => self.is_password_in(shown.trim()),
                _ => false,
            })
    }

    /// Of tools that know users and passwords alone: the token is the password of whichever user.
    fn is_password_in(&self, shown: &str) -> bool {
        let decoded = BASE64.decode(shown).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.is_some_and(|pair| pair.split_once(':').is_some_and(|(_, password)| self.is(password)))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("read token file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("read token file {}: it must hold one line of visible ASCII characters", path.display())]
    Unfit { path: PathBuf },
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "refusing to listen on {address} without --token-file; give one, or listen on 127.0.0.1, which only this \
         machine reaches"
    )]
    NoToken { address: SocketAddr },
    #[error("listen on {address}: the port is in use; end what listens there, or choose another with {flag}")]
    InUse { address: SocketAddr, flag: &'static str },
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// Whether `address` may be listened on: it is this machine's own, or a token guards it.
pub fn check_listen(address: SocketAddr, token: Option<&Token>) -> Result<(), ListenError> {
    if address.ip().to_canonical().is_loopback() || token.is_some() {
        Ok(())
    } else {
        Err(ListenError::NoToken { address })
    }
}

/// Checks and listens. `flag` is what a person changes to choose another address, for example `--listen`.
pub async fn listen(
    address: SocketAddr,
    flag: &'static str,
    token: Option<&Token>,
) -> Result<TcpListener, ListenError> {
    check_listen(address, token)?;
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address, flag },
        _ => ListenError::Listen { address, source },
    })
}

/// Server side of gRPC: refuses calls that do not show the token.
#[derive(Clone, Debug)]
pub struct Guard {
    token: Option<Token>,
}

impl Guard {
    pub fn new(token: Option<Token>) -> Self {
        Self { token }
    }
}

impl Interceptor for Guard {
    fn call(&mut self, request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        match &self.token {
            Some(token) if !token.is_shown_in(request.metadata().as_ref()) => Err(Status::unauthenticated(REFUSED)),
            _ => Ok(request),
        }
    }
}

/// Client side of gRPC: shows the token on every call.
#[derive(Clone, Debug)]
pub struct ShowToken {
    token: Option<Token>,
}

impl ShowToken {
    pub fn new(token: Option<Token>) -> Self {
        Self { token }
    }
}

impl Interceptor for ShowToken {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(token) = &self.token {
            let mut value = token
                .bearer()
                .parse::<tonic::metadata::AsciiMetadataValue>()
                .map_err(|_| Status::unauthenticated("the token cannot stand in a header"))?;
            value.set_sensitive(true);
            request.metadata_mut().insert(header::AUTHORIZATION.as_str(), value);
        }
        Ok(request)
    }
}

/// Server side of HTTP, as axum middleware:
/// `router.layer(axum::middleware::from_fn_with_state(token, door::require_token))`.
pub async fn require_token(State(token): State<Option<Token>>, request: Request, next: Next) -> Response {
    match &token {
        Some(token) if !token.is_shown_in(request.headers()) => {
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], REFUSED).into_response()
        }
        None if !names_this_machine(&request) => {
            (StatusCode::FORBIDDEN, "this is not the host that was asked for; use 127.0.0.1").into_response()
        }
        _ => next.run(request).await,
    }
}

/// Whether a request is to this machine by its own name. A page of another origin can have a browser ask here under that
/// origin's name (DNS rebinding); a token guards against it, so this is asked where there is none.
pub fn names_this_machine(request: &Request) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    is_local(host) || request.uri().authority().is_some_and(|authority| is_local(authority.as_str()))
}

fn is_local(authority: &str) -> bool {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

const REFUSED: &str = "no token, or not the cluster's; start with the --token-file that the master was started with";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_let_in_without_a_token() {
        let token = Token::new("secret");
        for (address, open) in
            [("127.0.0.1:5050", true), ("[::1]:0", true), ("0.0.0.0:5050", false), ("10.0.0.1:1", false)]
        {
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!(check_listen(address, None).is_ok(), open, "{address}");
            assert!(check_listen(address, token.as_ref()).is_ok());
        }
        let refused = check_listen("0.0.0.0:5050".parse().expect("an address"), None).expect_err("refused");
        assert!(
            refused.to_string().starts_with("refusing to listen on 0.0.0.0:5050 without --token-file;"),
            "{refused}"
        );
    }

    #[test]
    fn a_token_is_compared_whole_and_never_shown() {
        let token = Token::new(" s3cret\n").expect("a token");
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header value"));
            token.is_shown_in(&headers)
        };
        assert!(shown("Bearer s3cret") && shown("bearer s3cret"));
        // anybody:s3cret, as passwords are written.
        assert!(shown("Basic YW55Ym9keTpzM2NyZXQ="));
        for wrong in ["Basic YW55Ym9keTpzM2NyZXQw", "Basic czNjcmV0", "Basic ???", "Digest s3cret"] {
            assert!(!shown(wrong), "{wrong}");
        }
        for wrong in ["Bearer s3cre", "Bearer s3cret0", "Bearer ", "s3cret", "Basic s3cret", "Bearer S3cret"] {
            assert!(!shown(wrong), "{wrong}");
        }
        assert!(!token.is_shown_in(&HeaderMap::new()));
        assert_eq!(format!("{token:?} {:?}", Guard::new(Some(token.clone()))), "Token Guard { token: Some(Token) }");
        assert!(Token::new(" \n").is_none() && Token::new("two words").is_none());
    }

    #[tokio::test]
    async fn a_port_in_use_names_the_address_and_the_flag() {
        let first = listen("127.0.0.1:0".parse().expect("an address"), "--listen", None).await.expect("a free port");
        let address = first.local_addr().expect("bound");
        let error = listen(address, "--listen", None).await.expect_err("in use").to_string();
        assert!(error.contains(&address.to_string()) && error.contains("--listen"), "{error}");
    }
}
