//! Ends that trust each other, and ends that do not.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, SystemTime};

struct Ca {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a CA");
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("a file");
        Self { issuer: Issuer::new(params, key), folder }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A member under these names, whose certificate ends so many days from now.
    fn files(&self, names: &[&str], days: i64) -> Files {
        let names: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        let day = Duration::from_secs(86_400);
        params.not_before = (SystemTime::now() - day * 30).into();
        let now = SystemTime::now();
        params.not_after =
            if days < 0 { now - day * days.unsigned_abs() as u32 } else { now + day * days as u32 }.into();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        std::fs::write(self.file("member.pem"), certificate.pem()).expect("a file");
        std::fs::write(self.file("member.key"), key.serialize_pem()).expect("a file");
        Files { cert: Some(self.file("member.pem")), key: Some(self.file("member.key")), ca: Some(self.file("ca.pem")) }
    }

    fn member(&self) -> Tls {
        load(self.files(&["localhost", "127.0.0.1"], 1))
    }

    fn stranger(&self) -> Tls {
        load(Files { ca: Some(self.file("ca.pem")), ..Files::default() })
    }
}

fn load(files: Files) -> Tls {
    Tls::load(files).expect("they fit").expect("some")
}

fn refused(files: Files) -> String {
    Tls::load(files).expect_err("refused").to_string()
}

/// Both ends of a connection, each as it came out of its handshake and one word each way.
fn meet(caller: Option<&Tls>, called: Option<&Tls>) -> [Result<Socket, String>; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let explained = |error: io::Error| explain(&error).unwrap_or_else(|| error.to_string());
    std::thread::scope(|scope| {
        let calls = scope.spawn(move || -> io::Result<Socket> {
            let tcp = TcpStream::connect(address)?;
            tcp.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut socket = Socket::call(caller, tcp, &address.to_string())?;
            socket.shake_hands()?;
            socket.write_all(b"hello")?;
            let mut answer = [0; 5];
            socket.read_exact(&mut answer)?;
            Ok(socket)
        });
        let (tcp, _) = listener.accept().expect("a connection");
        let answers = || -> io::Result<Socket> {
            tcp.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut socket = Socket::answer(called, tcp)?;
            socket.shake_hands()?;
            let mut hello = [0; 5];
            socket.read_exact(&mut hello)?;
            socket.write_all(&hello)?;
            Ok(socket)
        };
        let answered = answers();
        [calls.join().expect("no panic").map_err(explained), answered.map_err(explained)]
    })
}

#[test]
fn both_ends_read_and_write_at_once() {
    let member = Ca::new().member();
    for tls in [None, Some(&member)] {
        let ends = meet(tls, tls).map(|end| end.expect("they trust each other"));
        // Far more than the buffers between them hold.
        let sent: Vec<u8> = (0..6_000_000_u32).map(|at| (at % 251) as u8).collect();
        std::thread::scope(|scope| {
            for mut end in ends {
                let mut writer = end.try_clone().expect("a second handle");
                let sent = &sent;
                scope.spawn(move || {
                    writer.write_all(sent).expect("it is taken");
                    writer.flush().expect("it is sent");
                });
                scope.spawn(move || {
                    let mut came = vec![0; sent.len()];
                    end.read_exact(&mut came).expect("it comes");
                    assert!(came == *sent);
                });
            }
        });
    }
}

#[test]
fn who_is_not_trusted_is_told_why() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let member = ours.member();
    let [caller, called] = meet(Some(&theirs.member()), Some(&member)).map(|end| end.expect_err("another CA"));
    assert!(caller.contains("not signed by the CA of --tls-ca"), "{caller}");
    assert!(called.contains("does not know the CA"), "{called}");
    let [caller, called] = meet(Some(&ours.stranger()), Some(&member)).map(|end| end.expect_err("no certificate"));
    assert!(caller.contains("asks for a certificate; give --tls-cert"), "{caller}");
    assert!(called.contains("certificate"), "{called}");
    let elsewhere = load(ours.files(&["elsewhere"], 1));
    let caller = meet(Some(&member), Some(&elsewhere)).map(|end| end.expect_err("another host"))[0].clone();
    assert!(caller.contains("it is for another host"), "{caller}");
    // One end encrypts and the other does not.
    let [_, called] = meet(None, Some(&member)).map(Result::err);
    let called = called.expect("no handshake");
    assert!(called.contains("does not speak TLS"), "{called}");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut plain, _) = listener.accept().expect("a connection");
            plain.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("sent");
            let _ = plain.read(&mut [0; 1024]);
        });
        let tcp = TcpStream::connect(address).expect("a connection");
        let mut socket = Socket::call(Some(&member), tcp, &address.to_string()).expect("nothing is answered yet");
        let caller = explain(&socket.shake_hands().expect_err("no handshake")).expect("a reason");
        assert!(caller.contains("does not speak TLS; start it with --tls-cert"), "{caller}");
    });
}

#[test]
fn files_that_do_not_work_are_named() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    assert!(Tls::load(Files::default()).expect("nothing is nothing").is_none());
    let files = ours.files(&["localhost"], 1);
    let text = refused(Files { ca: None, ..files.clone() });
    assert!(text.contains("--tls-cert needs --tls-ca"), "{text}");
    let text = refused(Files { key: None, ..files.clone() });
    assert!(text.contains("--tls-cert needs --tls-key"), "{text}");
    let text = refused(Files { ca: Some(Path::new("/nowhere/ca.pem").into()), ..files.clone() });
    assert!(text.contains("the CA from /nowhere/ca.pem"), "{text}");
    let text = refused(Files { ca: files.key.clone(), ..files.clone() });
    assert!(text.contains("there is none in it"), "{text}");
    let other = theirs.files(&["localhost"], 1);
    let text = refused(Files { key: other.key, ..files.clone() });
    assert!(text.contains("do not belong together"), "{text}");
    let text = refused(Files { ca: other.ca, ..files });
    assert!(text.contains("not signed by the CA") && text.contains("member.pem"), "{text}");
    let text = refused(ours.files(&["localhost"], -1));
    assert!(text.contains("it has expired"), "{text}");
}

#[tokio::test]
async fn a_plain_request_at_an_encrypted_door_is_answered() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let ca = Ca::new();
    let member = ca.member();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let door = member.member.as_ref().expect("a certificate").everybody.clone();
    let mut incoming = Incoming::open(listener, door);
    let mut plain = tokio::net::TcpStream::connect(address).await.expect("a connection");
    // One that says nothing holds up nobody.
    let _silent = tokio::net::TcpStream::connect(address).await.expect("a connection");
    plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("this door is encrypted"), "{answer}");
    for (tls, is_member) in [(&member, true), (&ca.stranger(), false)] {
        let at = address.to_string();
        let (called, came) = tokio::join!(connect(Some(tls), &at), incoming.next());
        called.expect("trusted");
        assert_eq!(came.map(|(_, peer)| peer.is_member), Some(is_member));
    }
}
