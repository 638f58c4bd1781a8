//! Whether and how a table's nodes are spoken to in secret.

use crate::api::{Error, Result};
use crate::options::Options;
use jobs::Diagnostic;
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509StoreContextRef, X509VerifyResult};
use scylla::client::session::TlsContext;
use std::fmt::Display;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Encryption {
    pub authorities: PathBuf,
    /// What is shown to nodes: the certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    pub verify_hostname: bool,
}

impl Encryption {
    pub fn of(options: &Options<'_>) -> std::result::Result<Option<Self>, Diagnostic> {
        let file = |key: &str| options.text(key).map(PathBuf::from);
        let (certificate, key) = (file("ssl.certificate.location"), file("ssl.key.location"));
        let Some(authorities) = file("ssl.ca.location") else {
            let others = ["ssl.certificate.location", "ssl.key.location", "ssl.verify_hostname"];
            return match others.into_iter().find(|key| options.entry(key).is_some()) {
                None => Ok(None),
                Some(key) => {
                    let wrong = options.wrong(key, format!("option '{key}' is for connections that are encrypted"));
                    Err(wrong.help("add ssl.ca.location, the certificates that vouch for the nodes"))
                }
            };
        };
        let certificate = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (one, _) => {
                let given = if one.is_some() { "ssl.certificate.location" } else { "ssl.key.location" };
                let wrong = options.wrong(given, "a certificate is shown together with its key");
                return Err(wrong.help("give both ssl.certificate.location and ssl.key.location"));
            }
        };
        let verify_hostname = options.bool("ssl.verify_hostname")?.unwrap_or(true);
        Ok(Some(Self { authorities, certificate, verify_hostname }))
    }

    /// The same, its files found from this folder.
    pub fn beside(self, base_dir: &Path) -> Self {
        let beside = |path: PathBuf| base_dir.join(path);
        let certificate = self.certificate.map(|(certificate, key)| (beside(certificate), beside(key)));
        Self { authorities: beside(self.authorities), certificate, ..self }
    }

    pub fn context(&self) -> Result<TlsContext> {
        let unread = |path: &Path, why: &dyn Display| {
            Error::Fatal(format!("'{}', which is for Cassandra, cannot be used: {why}", path.display()))
        };
        let read = |path: &Path| std::fs::read(path).map_err(|why| unread(path, &why));
        let authorities =
            X509::stack_from_pem(&read(&self.authorities)?).map_err(|why| unread(&self.authorities, &why))?;
        if authorities.is_empty() {
            return Err(unread(&self.authorities, &"it holds no certificate (PEM)"));
        }
        let certificate = match &self.certificate {
            None => None,
            Some((certificate, key)) => {
                let chain = X509::stack_from_pem(&read(certificate)?).map_err(|why| unread(certificate, &why))?;
                let key = PKey::private_key_from_pem(&read(key)?).map_err(|why| unread(key, &why))?;
                Some((certificate, chain, key))
            }
        };
        let built = || -> std::result::Result<SslConnectorBuilder, ErrorStack> {
            let mut known = X509StoreBuilder::new()?;
            for authority in authorities {
                known.add_cert(authority)?;
            }
            let mut builder = SslConnector::builder(SslMethod::tls_client())?;
            // In the place of those that the system trusts.
            builder.set_cert_store(known.build());
            if !self.verify_hostname {
                builder.set_verify_callback(SslVerifyMode::PEER, any_name);
            }
            Ok(builder)
        };
        let mut builder =
            built().map_err(|why| Error::Fatal(format!("Cassandra cannot be spoken to in secret: {why}")))?;
        if let Some((path, chain, key)) = certificate {
            let shown = || -> std::result::Result<(), ErrorStack> {
                let mut chain = chain.into_iter();
                if let Some(own) = chain.next() {
                    builder.set_certificate(&own)?;
                }
                chain.try_for_each(|between| builder.add_extra_chain_cert(between))?;
                builder.set_private_key(&key)?;
                builder.check_private_key()
            };
            shown().map_err(|why| unread(path, &why))?;
        }
        Ok(builder.into())
    }
}

/// What is wrong with a certificate but the address that it is for.
fn any_name(sound: bool, found: &mut X509StoreContextRef) -> bool {
    const HOSTNAME_MISMATCH: i32 = 62;
    const IP_ADDRESS_MISMATCH: i32 = 64;
    let of_name = [HOSTNAME_MISMATCH, IP_ADDRESS_MISMATCH].contains(&found.error().as_raw());
    if of_name {
        found.set_error(X509VerifyResult::OK);
    }
    sound || of_name
}
