//! What a broken handshake means, and the way out.

use rustls::{AlertDescription, CertificateError, Error};

/// What `error`, or what caused it, says about certificates; nothing if that is not what failed.
pub fn explain(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<Error>() {
            return Some(meaning(found));
        }
        // An IO error does not tell its inner one as its source; that may be an IO error again.
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}

fn meaning(error: &Error) -> String {
    if let Some(reason) = of_certificate(error) {
        return format!("the other end's certificate: {reason}");
    }
    match error {
        Error::InvalidMessage(_) => {
            "it does not speak TLS; start it with --tls-cert, --tls-key and --tls-ca, or leave them out here"
                .to_string()
        }
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                "it asks for a certificate; give --tls-cert and --tls-key".to_string()
            }
            // Of two CAs of one name only the signature tells which it was.
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                "it does not know the CA that signed our certificate; use one CA for the whole cluster".to_string()
            }
            AlertDescription::CertificateExpired => {
                "our certificate has expired, or its clock is wrong; make another one".to_string()
            }
            alert => format!("it refused our certificate ({alert:?})"),
        },
        error => error.to_string(),
    }
}

/// What is wrong with a certificate, if that is what the error says.
pub(crate) fn of_certificate(error: &Error) -> Option<String> {
    let Error::InvalidCertificate(wrong) = error else { return None };
    Some(match wrong {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired; make another one, for example with `smack cert`".to_string()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; are the clocks right?".to_string()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it was not signed by the CA of --tls-ca; use one CA for the whole cluster".to_string()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("it is for another host ({wrong}); make one with all names that others reach it by")
        }
        wrong => wrong.to_string(),
    })
}
