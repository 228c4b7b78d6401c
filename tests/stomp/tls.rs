//! Addresses that others reach: TLS, with a certificate from each side.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::client::{CONNECT, Client, ping, subscribe};
use super::support::PATIENCE;
use super::support::daemon::{command, config_file};
use super::{Host, configuration, support};

/// Handshakes that are under way at once.
const HANDSHAKES: u32 = 16;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate as VDSM's are: for both sides of a connection.
fn certificate(authority: &Authority) -> (rcgen::Certificate, KeyPair) {
    let mut parameters = CertificateParams::new(vec!["host.example".to_owned()]).unwrap();
    parameters.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    (parameters.signed_by(&key, authority).unwrap(), key)
}

/// The files of a host.
struct Pki {
    directory: tempfile::TempDir,
    authority: Authority,
    certificate: CertificateDer<'static>,
}

impl Pki {
    fn new() -> Self {
        let (directory, authority) = (tempfile::tempdir().unwrap(), authority());
        std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
        let mut pki = Self { directory, authority, certificate: Vec::new().into() };
        pki.renew();
        pki
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Another certificate of the same authority.
    fn renew(&mut self) {
        let (certificate, key) = certificate(&self.authority);
        std::fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
        self.certificate = certificate.der().clone();
    }

    fn keys(&self, listen: &str) -> String {
        let path = |name| self.path(name).display().to_string();
        format!(
            "stomp-listen = ['{listen}']\ntls-certificate = '{}'\ntls-key = '{}'\ntls-ca = '{}'\n",
            path("cert.pem"),
            path("key.pem"),
            path("ca.pem")
        )
    }

    /// Opens a connection; the client shows a certificate of that authority, if of any.
    fn open(&self, host: &Host, of: Option<&Authority>, version: &'static SupportedProtocolVersion) -> Secure {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let config = match of.map(certificate) {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                config.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        let stream = TcpStream::connect(host.stomp).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        Client::over(StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream))
    }
}

type Secure = Client<StreamOwned<ClientConnection, TcpStream>>;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

impl Secure {
    /// The first answer, for those who should get none.
    fn try_asks(&mut self) -> io::Result<()> {
        self.stream.write_all([CONNECT, &subscribe(), &ping("x")].concat().as_bytes())?;
        self.try_next().map(|frame| assert!(frame.is_none(), "{frame:?}"))?;
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn peer(&self) -> CertificateDer<'static> {
        self.stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

#[test]
fn only_clients_with_a_certificate_of_the_authority_are_answered() {
    let pki = Pki::new();
    let host = Host::with(&pki.keys("0.0.0.0:0"));
    assert!(host.daemon.log().contains(" (TLS)"), "{}", host.daemon.log());
    let mut refused = 0;
    for version in VERSIONS {
        let mut client = pki.open(&host, Some(&pki.authority), version);
        client.asks("with a certificate");
        assert_eq!(client.peer(), pki.certificate);
        for of in [None, Some(authority())] {
            let mut other = pki.open(&host, of.as_ref(), version);
            other.try_asks().expect_err("nobody knows it");
            refused += 1;
            host.refused("tls", refused);
        }
    }
    // Plain, and nothing at all.
    let mut plain = Client::open(host.stomp);
    plain.say(&[CONNECT, &subscribe(), &ping("plain")].concat());
    let mut answer = Vec::new();
    let _ = io::Read::read_to_end(&mut plain.stream, &mut answer);
    assert!(!answer.windows(9).any(|window| window == b"CONNECTED"), "{answer:?}");
    host.refused("tls", refused + 1);
    let _mute: Vec<TcpStream> = (1..HANDSHAKES).map(|_| TcpStream::connect(host.stomp).unwrap()).collect();
    pki.open(&host, Some(&pki.authority), VERSIONS[1]).asks("beside mute ones");
    host.daemon.scrape();
    host.refused("tls", refused + HANDSHAKES);
}

#[test]
fn loopback_stays_plain_beside_others() {
    let pki = Pki::new();
    let listen = "0.0.0.0:0', '127.0.0.1:0";
    let host = Host::with(&pki.keys(listen));
    Client::open(address(&host, " (plain)")).asks("plain");
    pki.open(&host, Some(&pki.authority), VERSIONS[1]).asks("TLS");
}

/// Which address is carried like this.
fn address(host: &Host, how: &str) -> SocketAddr {
    support::wait_for(how, || {
        let log = host.daemon.log();
        let line = log.lines().rev().find(|line| line.contains("stomp://") && line.ends_with(how))?;
        line.rsplit_once("stomp://")?.1.strip_suffix(how)?.parse().ok()
    })
}

#[test]
fn strangers_who_begin_tls_and_say_nothing_take_no_place_of_others() {
    let pki = Pki::new();
    let host = Host::with(&pki.keys("0.0.0.0:0', '127.0.0.1:0"));
    // More than all places there are; the rest waits in the listen queue.
    let _mute: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(host.stomp).unwrap()).collect();
    host.connections(HANDSHAKES);
    let plain = address(&host, " (plain)");
    let mut clients: Vec<_> = (0..64).map(|_| Client::subscribed(plain)).collect();
    for client in &mut clients {
        client.say(&ping("plain"));
        client.next().assert_answers("plain");
    }
    host.connections(HANDSHAKES + 64);
}

#[test]
fn clients_behind_tls_have_all_places_and_wait_for_one_with_a_handshake_done() {
    let pki = Pki::new();
    let host = Host::with(&pki.keys("0.0.0.0:0"));
    let mut clients: Vec<_> = (0..64).map(|_| pki.open(&host, Some(&pki.authority), VERSIONS[1])).collect();
    clients.iter_mut().for_each(|client| client.asks("one of many"));
    let mut next = pki.open(&host, Some(&pki.authority), VERSIONS[1]);
    next.stream.write_all([CONNECT, &subscribe(), &ping("next")].concat().as_bytes()).unwrap();
    next.stream.sock.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(next.try_next().is_err(), "there is no place");
    next.stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    clients.pop();
    assert_eq!(next.next().command, "CONNECTED");
    next.next().assert_answers("next");
}

#[test]
fn without_certificates_all_else_is_served_and_a_reload_brings_tls_when_they_are_there() {
    let pki = Pki::new();
    let keys = pki.keys("0.0.0.0:0', '127.0.0.1:0");
    std::fs::rename(pki.path("key.pem"), pki.path("later.pem")).unwrap();
    let host = Host::with(&keys);
    let missing = pki.path("key.pem").display().to_string();
    support::wait_for("the complaint", || {
        let log = host.daemon.log();
        let line = log.lines().find(|line| line.contains("no STOMP over TLS until this is mended"))?;
        assert!(line.contains(" ERROR ") && line.contains(&missing) && line.contains("vdsm.tls-key"), "{line}");
        Some(())
    });
    assert!(!host.daemon.log().contains("(TLS)"), "{}", host.daemon.log());
    host.daemon.scrape();
    Client::open(address(&host, " (plain)")).asks("plain");
    host.reload(&keys, "the new configuration is in force");
    assert!(!host.daemon.log().contains("(TLS)"), "{}", host.daemon.log());

    std::fs::rename(pki.path("later.pem"), pki.path("key.pem")).unwrap();
    host.reload(&keys, " (TLS)");
    let host = Host { stomp: ([127, 0, 0, 1], address(&host, " (TLS)").port()).into(), ..host };
    pki.open(&host, Some(&pki.authority), VERSIONS[1]).asks("at last");
}

#[test]
fn renewed_certificates_come_into_force_with_a_reload_and_bad_ones_do_not() {
    let mut pki = Pki::new();
    let keys = pki.keys("0.0.0.0:0");
    let host = Host::with(&keys);
    let version = VERSIONS[1];
    let mut old = pki.open(&host, Some(&pki.authority), version);
    old.asks("old");
    let first = pki.certificate.clone();
    pki.renew();
    host.reload(&keys, "the new configuration is in force");
    let mut new = pki.open(&host, Some(&pki.authority), version);
    new.asks("new");
    assert_eq!(new.peer(), pki.certificate);
    assert_ne!(new.peer(), first);
    // Who is connected stays so.
    old.say(&ping("still here"));
    old.next().assert_answers("still here");

    std::fs::write(pki.path("cert.pem"), "nothing").unwrap();
    host.reload(&keys, "the old STOMP certificates stay in force");
    assert!(host.daemon.log().contains("holds no certificate"), "{}", host.daemon.log());
    let mut client = pki.open(&host, Some(&pki.authority), version);
    client.asks("as before");
    assert_eq!(client.peer(), pki.certificate);
}

#[test]
fn check_tells_which_file_is_wrong_and_exits_2() {
    let pki = Pki::new();
    let check = |vdsm: &str| {
        let (_directory, file) = config_file(&configuration(vdsm));
        let output = command(&["check", "--config", &file]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let good = pki.keys("192.0.2.1:54321");
    assert_eq!(check(&good), (Some(0), String::new()));
    for (name, key) in [("cert.pem", "tls-certificate"), ("key.pem", "tls-key"), ("ca.pem", "tls-ca")] {
        let bad = good.replace(name, "missing.pem");
        let missing = pki.path("missing.pem").display().to_string();
        let (code, said) = check(&bad);
        assert_eq!(code, Some(2), "{said}");
        let expected = format!("virtstatd: {missing}: cannot be read: No such file");
        assert!(said.contains(&expected) && said.contains(&format!("vdsm.{key}")), "{said}");
        let local = bad.replace("192.0.2.1", "127.0.0.1");
        assert_eq!(check(&local), (Some(0), String::new()), "on loopback nobody needs them");
    }
    let (_, key) = certificate(&pki.authority);
    std::fs::write(pki.path("key.pem"), key.serialize_pem()).unwrap();
    let (code, said) = check(&good);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("key.pem: is not the key of the certificate in "), "{said}");
}
