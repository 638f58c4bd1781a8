//! Against a registry in this process that says what a test wants.

use super::*;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

/// Answers requests in turn, and tells the first line and the header of each.
pub fn registry(answers: Vec<(u16, &'static str)>) -> (Url, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/apis/ccompat/v7/", listener.local_addr().unwrap());
    let (asked, questions) = channel();
    std::thread::spawn(move || {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut part = [0; 4096];
            loop {
                let n = stream.read(&mut part).unwrap();
                request.extend_from_slice(&part[..n]);
                let text = String::from_utf8_lossy(&request);
                let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
                let length = head
                    .lines()
                    .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
                if rest.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                    break;
                }
            }
            asked.send(String::from_utf8(request).unwrap()).unwrap();
            let length = body.len();
            write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
                .unwrap();
        }
    });
    (Url::parse(&url).unwrap(), questions)
}

pub fn access(url: Url) -> Access {
    Access {
        urls: vec![url],
        user: Some("me".to_owned()),
        password: Some("hunter2".to_owned()),
        authorities: None,
        certificate: None,
    }
}

#[test]
fn a_schema_is_asked_for_once_with_all_that_it_names() {
    let (url, questions) = registry(vec![
        (200, r#"{"schema":"\"B\"","references":[{"name":"B","subject":"b/c","version":2}],"guid":"x"}"#),
        (200, r#"{"subject":"b/c","version":2,"id":4,"schema":"{}"}"#),
        (404, r#"{"error_code":40403,"message":"Schema 9 not found"}"#),
    ]);
    let registry = SchemaRegistry::of(access(url.clone()));
    for _ in 0..2 {
        let schema = registry.schema(SchemaId::Number(7)).unwrap().unwrap();
        assert_eq!((schema.kind.as_str(), schema.text.as_str()), ("AVRO", "\"B\""));
        assert_eq!(schema.references, [("B".to_owned(), "{}".to_owned())]);
    }
    // The same one for whoever asks the same place, and rubbish is not asked about.
    assert!(Arc::ptr_eq(&registry, &SchemaRegistry::of(access(url))));
    assert_eq!(registry.schema(SchemaId::Number(u32::MAX)).unwrap(), None);
    assert_eq!(registry.schema(SchemaId::Number(9)).unwrap(), None);
    let first = questions.recv().unwrap();
    assert!(first.starts_with("GET /apis/ccompat/v7/schemas/ids/7 "), "{first}");
    assert!(first.contains("Basic bWU6aHVudGVyMg=="), "{first}");
    assert!(questions.recv().unwrap().starts_with("GET /apis/ccompat/v7/subjects/b%2Fc/versions/2 "));
}

#[test]
fn silence_and_outages_are_transient_and_refusals_are_not() {
    let words = r#"{"error_code":42201,"message":"not so"}"#;
    let (url, _questions) =
        registry(vec![(503, ""), (429, ""), (401, ""), (422, words), (404, "<html>"), (200, "<html>"), (404, "")]);
    let registry = SchemaRegistry::of(access(url));
    let mut told = Vec::new();
    for _ in 0..6 {
        let why = registry.ids("s", "AVRO", "\"int\"", true).unwrap_err();
        assert!(!why.to_string().contains("hunter2"), "{why}");
        told.push((matches!(why, Error::Transient(_)), why.to_string()));
    }
    assert_eq!(
        told.iter().map(|(transient, _)| *transient).collect::<Vec<_>>(),
        [true, true, false, false, false, false]
    );
    assert!(told[3].1.contains("not so"), "{told:?}");
    assert!(told[4].1.contains("schema.registry.url"), "{told:?}");
    // Of GUIDs not every registry knows.
    assert_eq!(registry.schema(SchemaId::Guid([1; 16])).unwrap(), None);
    // By now nobody listens.
    let why = registry.schema(SchemaId::Number(1)).unwrap_err();
    assert!(matches!(why, Error::Transient(_)) && why.to_string().contains("127.0.0.1"), "{why}");
}

/// A CA in a folder, and a certificate of it for this machine: `ca.pem`, `own.pem` and `own.key`.
fn authority() -> tempfile::TempDir {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.path().join("own.pem"), own.pem()).unwrap();
    std::fs::write(folder.path().join("own.key"), key.serialize_pem()).unwrap();
    folder
}

/// Answers whoever has a certificate of its CA.
fn encrypted(folder: &Path) -> Url {
    let [ca, cert, key] = ["ca.pem", "own.pem", "own.key"].map(|name| Some(folder.join(name)));
    let tls = tls::Tls::load(tls::Files { cert, key, ca }).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut socket = tls::Socket::answer(tls.as_ref(), stream.unwrap()).unwrap();
            let mut request = [0; 4096];
            let heard = socket.shake_hands().and_then(|()| socket.read(&mut request));
            if heard.is_ok_and(|n| n > 0) {
                let body = r#"{"schema":"\"int\""}"#;
                let length = body.len();
                let _ = write!(socket, "HTTP/1.1 200 X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            }
        }
    });
    Url::parse(&url).unwrap()
}

#[test]
fn a_registry_is_trusted_by_its_certificate_and_shown_ours() {
    let (theirs, other) = (authority(), authority());
    let url = encrypted(theirs.path());
    let file = |folder: &tempfile::TempDir, name: &str| folder.path().join(name);
    let own = |folder| Some((file(folder, "own.pem"), file(folder, "own.key")));
    let ask = |authorities: Option<PathBuf>, certificate: Option<(PathBuf, PathBuf)>| {
        let access = Access { authorities, certificate, user: None, password: None, urls: vec![url.clone()] };
        SchemaRegistry::of(access).schema(SchemaId::Number(1))
    };
    let schema = ask(Some(file(&theirs, "ca.pem")), own(&theirs)).unwrap().unwrap();
    assert_eq!(schema.text, "\"int\"");
    for (authorities, certificate) in [
        (None, own(&theirs)),
        (Some(file(&other, "ca.pem")), own(&theirs)),
        (Some(file(&theirs, "ca.pem")), None),
        (Some(file(&theirs, "ca.pem")), own(&other)),
    ] {
        let why = ask(authorities, certificate).unwrap_err();
        let fatal = matches!(&why, Error::Fatal(why) if why.contains("schema.registry.ssl.ca.location"));
        assert!(fatal, "{why:?}");
    }
    for (authorities, certificate, part) in [
        (Some(file(&theirs, "none.pem")), None, "none.pem"),
        (Some(file(&theirs, "own.key")), None, "own.key"),
        (None, Some((file(&theirs, "own.pem"), file(&theirs, "ca.pem"))), "own.pem"),
    ] {
        let why = ask(authorities, certificate).unwrap_err();
        assert!(matches!(&why, Error::Fatal(why) if why.contains(part)), "{why:?}");
    }
}
