//! What is said of files that do not do.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

struct Files {
    directory: tempfile::TempDir,
    files: TlsFiles,
}

/// An authority, a certificate of it, and its key.
fn files() -> Files {
    let directory = tempfile::tempdir().expect("a directory");
    let mut authority = CertificateParams::new(Vec::new()).expect("valid");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let host = CertificateParams::new(vec!["host".to_owned()]).expect("valid");
    let host = host.signed_by(&key, &authority).expect("a certificate");
    let write = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let files = TlsFiles {
        certificate: write("cert.pem", host.pem()),
        key: write("key.pem", key.serialize_pem()),
        authorities: write("ca.pem", authority.pem()),
    };
    Files { directory, files }
}

fn error(files: &TlsFiles) -> String {
    files.check().expect_err("not usable").to_string()
}

#[test]
fn good_files_are_good() {
    files().files.check().expect("good");
}

#[test]
fn a_missing_file_is_named_with_its_key_and_the_cure() {
    let Files { directory, files } = files();
    let missing = directory.path().join("missing.pem");
    for (key, files) in [
        ("tls-certificate", TlsFiles { certificate: missing.clone(), ..files.clone() }),
        ("tls-key", TlsFiles { key: missing.clone(), ..files.clone() }),
        ("tls-ca", TlsFiles { authorities: missing.clone(), ..files.clone() }),
    ] {
        let said = error(&files);
        assert!(said.starts_with(&format!("{}: cannot be read: No such file", missing.display())), "{said}");
        assert!(said.contains(&format!("name an existing file in vdsm.{key}, or listen on loopback only")), "{said}");
    }
}

#[test]
fn files_without_what_they_are_for_are_told() {
    let Files { directory, files } = files();
    let swapped = TlsFiles { certificate: files.key.clone(), key: files.certificate.clone(), ..files.clone() };
    let expected =
        format!("{}: holds no certificate; vdsm.tls-certificate names a PEM file with one", files.key.display());
    assert_eq!(error(&swapped), expected);
    let no_key = TlsFiles { key: files.certificate.clone(), ..files.clone() };
    assert!(error(&no_key).ends_with("holds no private key; vdsm.tls-key names a PEM file with one"));
    let no_authority = TlsFiles { authorities: files.key.clone(), ..files.clone() };
    assert!(error(&no_authority).ends_with("holds no certificate; vdsm.tls-ca names a PEM file with one"));
    let damaged = directory.path().join("damaged.pem");
    std::fs::write(&damaged, "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").expect("written");
    let said = error(&TlsFiles { certificate: damaged.clone(), ..files.clone() });
    assert!(said.starts_with(&damaged.display().to_string()) && said.contains("vdsm.tls-certificate"), "{said}");
    let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&damaged, text).expect("written");
    for files in [
        TlsFiles { certificate: damaged.clone(), ..files.clone() },
        TlsFiles { authorities: damaged.clone(), ..files.clone() },
    ] {
        let said = error(&files);
        assert!(said.starts_with(&format!("{}: cannot be ", damaged.display())), "{said}");
    }
}

#[test]
fn a_key_of_another_certificate_is_told() {
    let Files { directory: _kept, files: one } = files();
    let Files { directory: _too, files: other } = files();
    let said = error(&TlsFiles { key: other.key.clone(), ..one.clone() });
    let expected =
        format!("{}: is not the key of the certificate in {}", other.key.display(), one.certificate.display());
    assert!(said.starts_with(&expected), "{said}");
}
