//! `smack cert`: a CA and certificates of members, for those who have none of their own.
//!
//! Invariant: no file that is there is written over, and no other user can read a key.

use super::exit::{FAILED, Fail, Result};
use super::output::Output;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Clocks of several machines differ a little.
const BACK: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_DAYS: u32 = 3650;

#[derive(Debug, Serialize)]
struct Made {
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
    hosts: Vec<String>,
}

pub fn cert(output: Output, dir: &Path, hosts: &[String], days: u32) -> Result<()> {
    let made = make(dir, hosts, days).map_err(|error| Fail::new(FAILED, format!("failed to {error}")))?;
    if output.json {
        return output.json(&made);
    }
    let Made { cert, key, ca, hosts } = made;
    let options = format!("--tls-cert {} --tls-key {} --tls-ca {}\n", cert.display(), key.display(), ca.display());
    output.raw(options.as_bytes())?;
    if !output.quiet {
        eprintln!("a certificate for {}, valid for {days} days; its options are above", hosts.join(", "));
    }
    Ok(())
}

fn make(dir: &Path, hosts: &[String], days: u32) -> std::result::Result<Made, String> {
    std::fs::create_dir_all(dir).map_err(|error| format!("make the folder {}: {error}", dir.display()))?;
    let (ca_cert, ca_key) = (dir.join("ca.pem"), dir.join("ca.key"));
    let failed = |what: &str, error: rcgen::Error| format!("make {what}: {error}");
    let key = match std::fs::read_to_string(&ca_key) {
        Ok(text) => KeyPair::from_pem(&text).map_err(|error| format!("read the key {}: {error}", ca_key.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = KeyPair::generate().map_err(|error| failed("the CA's key", error))?;
            let ca = ca().and_then(|params| params.self_signed(&key)).map_err(|error| failed("the CA", error))?;
            write(&ca_key, &key.serialize_pem(), 0o600)?;
            write(&ca_cert, &ca.pem(), 0o644)?;
            key
        }
        Err(error) => return Err(format!("read the key {}: {error}", ca_key.display())),
    };
    let issuer = Issuer::new(ca().map_err(|error| failed("the CA", error))?, key);

    let own = ["localhost", "127.0.0.1", "::1"].map(str::to_string);
    let mut all: Vec<String> = hosts.to_vec();
    all.extend(own.into_iter().filter(|name| !hosts.contains(name)));
    let stem = hosts.first().map_or("localhost", String::as_str).replace([':', '/', '*'], "_");
    let what = format!("a certificate for {stem}");
    let member_key = KeyPair::generate().map_err(|error| failed(&what, error))?;
    let params = member(&all, days).map_err(|error| failed(&what, error))?;
    let certificate = params.signed_by(&member_key, &issuer).map_err(|error| failed(&what, error))?;
    let (cert, key) = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
    write(&key, &member_key.serialize_pem(), 0o600)?;
    write(&cert, &certificate.pem(), 0o644)?;
    Ok(Made { cert, key, ca: ca_cert, hosts: all })
}

/// Made again from its key whenever it signs, so that the key is all that is needed.
fn ca() -> std::result::Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = named("CA of a smack cluster");
    valid_for(&mut params, CA_DAYS);
    Ok(params)
}

fn member(hosts: &[String], days: u32) -> std::result::Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = named(hosts.first().map_or("member", String::as_str));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, days);
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn valid_for(params: &mut CertificateParams, days: u32) {
    let now = SystemTime::now();
    params.not_before = (now - BACK).into();
    params.not_after = (now + DAY * days).into();
}

fn write(path: &Path, text: &str, mode: u32) -> std::result::Result<(), String> {
    let file = File::options().create_new(true).write(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("write {}: there is one already; remove it, or choose another folder with --dir", path.display())
        }
        _ => format!("write {}: {error}", path.display()),
    })
}
