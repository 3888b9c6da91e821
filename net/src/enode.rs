//! Node ids and enode URLs: `enode://<id>@<ip>:<tcp port>[?discport=<udp port>]` (devp2p, enode-url.md).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use secp256k1::PublicKey;

/// A node's public key, uncompressed, without the leading 0x04. Not every value is a point of the curve.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 64]);

impl NodeId {
    /// The id of the node that holds the secret key of `key`.
    pub fn from_public_key(key: &PublicKey) -> NodeId {
        let mut id = [0; 64];
        id.copy_from_slice(&key.serialize_uncompressed()[1..]);
        NodeId(id)
    }

    /// The key, if the id is a point of the curve.
    pub fn public_key(&self) -> Option<PublicKey> {
        let mut bytes = [4; 65];
        bytes[1..].copy_from_slice(&self.0);
        PublicKey::from_slice(&bytes).ok()
    }

    /// The first 8 hex digits, for logs.
    pub fn short(&self) -> String {
        alloy_primitives::hex::encode(&self.0[..4])
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&alloy_primitives::hex::encode(self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({}..)", self.short())
    }
}

impl FromStr for NodeId {
    type Err = EnodeError;

    /// 128 hex digits that are a public key.
    fn from_str(text: &str) -> Result<NodeId, EnodeError> {
        // Counted in characters, for people; only ASCII passes the second check.
        let digits = text.chars().count();
        if digits != 128 {
            return Err(EnodeError::IdLength { digits });
        }
        if let Some((at, found)) = text
            .chars()
            .enumerate()
            .find(|(_, c)| !c.is_ascii_hexdigit())
        {
            return Err(EnodeError::IdDigit { at: at + 1, found });
        }
        let mut id = [0; 64];
        alloy_primitives::hex::decode_to_slice(text, &mut id)
            .expect("128 hex digits, checked above");
        let id = NodeId(id);
        if id.public_key().is_none() {
            return Err(EnodeError::IdNotAKey);
        }
        Ok(id)
    }
}

/// A node and the address where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Enode {
    /// Its public key.
    pub id: NodeId,
    /// Its address.
    pub ip: IpAddr,
    /// Port of RLPx.
    pub tcp: u16,
    /// Port of discovery; mostly the same.
    pub udp: u16,
}

impl Enode {
    /// Where to dial it.
    pub fn tcp_addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.tcp)
    }
}

/// An enode URL whose host may be a name that is still to be resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EnodeUrl {
    /// Its public key.
    pub id: NodeId,
    /// Address or name, without brackets.
    pub host: String,
    /// Port of RLPx.
    pub tcp: u16,
    /// Port of discovery.
    pub udp: u16,
}

impl EnodeUrl {
    /// The enode, if the host is an address.
    pub fn enode(&self) -> Option<Enode> {
        self.host.parse().ok().map(|ip| self.at(ip))
    }

    /// The enode, given the address that the host's name stands for.
    pub fn at(&self, ip: IpAddr) -> Enode {
        Enode {
            id: self.id,
            ip,
            tcp: self.tcp,
            udp: self.udp,
        }
    }
}

/// What is wrong with an enode URL.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the texts below say what each field is
pub enum EnodeError {
    Scheme,
    NoAt,
    IdLength { digits: usize },
    IdDigit { at: usize, found: char },
    IdNotAKey,
    NoHost,
    Ipv6 { found: String },
    Ipv6Brackets,
    Host { found: String },
    HostName { found: String },
    NoPort,
    Port { found: String },
    Query { found: String },
    DiscPort { found: String },
}

impl fmt::Display for EnodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not an enode URL (enode://<128 hex digits>@<address>:<port>): "
        )?;
        match self {
            EnodeError::Scheme => write!(f, "it does not begin with enode://"),
            EnodeError::NoAt => write!(f, "there is no @ between the node id and the address"),
            EnodeError::IdLength { digits } => {
                write!(
                    f,
                    "the node id before the @ must have 128 hex digits, found {digits}"
                )
            }
            EnodeError::IdDigit { at, found } => write!(
                f,
                "character {at} of the node id, {found:?}, is no hex digit"
            ),
            EnodeError::IdNotAKey => write!(
                f,
                "the node id is no public key (not a point of secp256k1): is a digit wrong?"
            ),
            EnodeError::NoHost => write!(f, "there is no address after the @"),
            EnodeError::Ipv6 { found } => write!(f, "{found:?} in brackets is no IPv6 address"),
            EnodeError::Ipv6Brackets => {
                write!(f, "an IPv6 address must stand in brackets: [::1]:30303")
            }
            EnodeError::Host { found } => {
                write!(f, "{found:?} is neither an address nor a host name")
            }
            EnodeError::HostName { found } => write!(
                f,
                "{found:?} is a host name; here only an IP address will do"
            ),
            EnodeError::NoPort => write!(
                f,
                "there is no port after the address: append one, such as :30303"
            ),
            EnodeError::Port { found } => write!(f, "{found:?} is no port: expected 1 to 65535"),
            EnodeError::Query { found } => write!(
                f,
                "only ?discport=<port> may follow the port, found {found:?}"
            ),
            EnodeError::DiscPort { found } => {
                write!(f, "discport {found:?} is no port: expected 0 to 65535")
            }
        }
    }
}

impl std::error::Error for EnodeError {}

impl FromStr for EnodeUrl {
    type Err = EnodeError;

    fn from_str(text: &str) -> Result<EnodeUrl, EnodeError> {
        let rest = text
            .trim()
            .strip_prefix("enode://")
            .ok_or(EnodeError::Scheme)?;
        let (id, rest) = rest.split_once('@').ok_or(EnodeError::NoAt)?;
        let id: NodeId = id.parse()?;
        let (endpoint, query) = match rest.split_once('?') {
            Some((endpoint, query)) => (endpoint, Some(query)),
            None => (rest, None),
        };
        let endpoint = endpoint.strip_suffix('/').unwrap_or(endpoint);
        let (host, port) = split_endpoint(endpoint)?;
        let tcp = match digits(port) {
            Some(port) if port != 0 => port,
            _ => {
                return Err(EnodeError::Port {
                    found: port.to_owned(),
                });
            }
        };
        let udp = match query {
            None => tcp,
            Some(query) => {
                let port = query
                    .strip_prefix("discport=")
                    .ok_or_else(|| EnodeError::Query {
                        found: query.to_owned(),
                    })?;
                digits(port).ok_or_else(|| EnodeError::DiscPort {
                    found: port.to_owned(),
                })?
            }
        };
        Ok(EnodeUrl { id, host, tcp, udp })
    }
}

/// Host (checked for its form, without brackets) and the text of the port.
fn split_endpoint(endpoint: &str) -> Result<(String, &str), EnodeError> {
    if let Some(rest) = endpoint.strip_prefix('[') {
        let (ip, rest) = rest.split_once(']').ok_or_else(|| EnodeError::Ipv6 {
            found: rest.to_owned(),
        })?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| EnodeError::Ipv6 {
            found: ip.to_owned(),
        })?;
        let port = rest.strip_prefix(':').ok_or(EnodeError::NoPort)?;
        return Ok((ip.to_string(), port));
    }
    if endpoint.matches(':').count() > 1 {
        return Err(EnodeError::Ipv6Brackets);
    }
    let (host, port) = endpoint.split_once(':').unwrap_or((endpoint, ""));
    if host.is_empty() {
        return Err(EnodeError::NoHost);
    }
    // Host names by RFC 1123. One that ends in a number is meant as an address, and is a bad one (as the URL standard has it).
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_address = host.parse::<IpAddr>().is_ok();
    let ends_in_number = name
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    if !is_address && (host.len() > 253 || ends_in_number || !name.split('.').all(label_is_good)) {
        return Err(EnodeError::Host {
            found: host.to_owned(),
        });
    }
    if port.is_empty() {
        return Err(EnodeError::NoPort);
    }
    Ok((host.to_owned(), port))
}

/// A port in plain decimal digits: `u16::from_str` alone would take a sign.
fn digits(text: &str) -> Option<u16> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

impl FromStr for Enode {
    type Err = EnodeError;

    fn from_str(text: &str) -> Result<Enode, EnodeError> {
        let url: EnodeUrl = text.parse()?;
        url.enode().ok_or(EnodeError::HostName { found: url.host })
    }
}

impl fmt::Display for Enode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "enode://{}@{}", self.id, self.tcp_addr())?;
        if self.udp != self.tcp {
            write!(f, "?discport={}", self.udp)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The id of devp2p's enode-url.md and of its examples.
    const ID: &str = "6f8a80d14311c39f35f516fa664deaaaa13e85b2f7493f37f6144d86991ec012937307647bd3b9a82abe2974e1407241d54947bbb39763a4cac9f77166ad92a0";

    fn parse(rest: &str) -> Result<Enode, EnodeError> {
        format!("enode://{ID}@{rest}").parse()
    }

    #[test]
    fn the_examples_of_the_specification_are_read_and_printed_again() {
        let v4 = parse("10.3.58.6:30303").expect("the specification's");
        assert_eq!((v4.tcp, v4.udp), (30303, 30303));
        let two_ports = parse("10.3.58.6:30303?discport=30301").expect("the specification's");
        assert_eq!((two_ports.tcp, two_ports.udp), (30303, 30301));
        let v6 = parse("[2001:db8::1]:30303").expect("IPv6");
        assert_eq!(v6.tcp_addr().to_string(), "[2001:db8::1]:30303");
        for enode in [v4, two_ports, v6] {
            assert_eq!(enode.to_string().parse(), Ok(enode));
        }
        assert_eq!(v4.to_string(), format!("enode://{ID}@10.3.58.6:30303"));
        assert_eq!(v4.id.short(), "6f8a80d1");
    }

    #[test]
    fn discport_zero_says_that_there_is_no_discovery() {
        assert_eq!(
            parse("10.3.58.6:30303?discport=0").map(|enode| enode.udp),
            Ok(0)
        );
    }

    #[test]
    fn a_host_name_is_kept_to_be_resolved_elsewhere() {
        let url: EnodeUrl = format!("enode://{ID}@node-1.example.org:30303")
            .parse()
            .expect("a host name");
        assert_eq!(
            (url.host.as_str(), url.tcp, url.enode()),
            ("node-1.example.org", 30303, None)
        );
        let resolved = url.at(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(resolved.tcp_addr().to_string(), "10.0.0.1:30303");
        let found = "node-1.example.org".to_owned();
        assert_eq!(
            parse("node-1.example.org:30303"),
            Err(EnodeError::HostName { found })
        );
    }

    #[test]
    fn every_error_says_what_is_wrong() {
        let full = |text: &str| text.parse::<EnodeUrl>().expect_err(text).to_string();
        let after_at = |rest: &str| full(&format!("enode://{ID}@{rest}"));
        let with_id = |id: &str| full(&format!("enode://{id}@127.0.0.1:1"));
        for (error, says) in [
            (full("127.0.0.1:30303"), "does not begin with enode://"),
            (full(""), "does not begin with enode://"),
            (full(&format!("enode://{ID}")), "no @"),
            (with_id(&ID[1..]), "must have 128 hex digits, found 127"),
            (
                with_id(&format!("0x{}", &ID[2..])),
                "character 2 of the node id, 'x'",
            ),
            (with_id(&"é".repeat(128)), "character 1 of the node id, 'é'"),
            (with_id(&"0".repeat(128)), "no public key"),
            (after_at(""), "no address"),
            (after_at(":30303"), "no address"),
            (after_at("127.0.0.1"), "no port"),
            (after_at("127.0.0.1:"), "no port"),
            (
                after_at("127.0.0.1:0"),
                "\"0\" is no port: expected 1 to 65535",
            ),
            (after_at("127.0.0.1:+1"), "\"+1\" is no port"),
            (after_at("127.0.0.1:65536"), "\"65536\" is no port"),
            (after_at("127.0.0.1:30303x"), "\"30303x\" is no port"),
            (after_at("127.0.0.256:30303"), "\"127.0.0.256\" is neither"),
            (after_at("some host:30303"), "\"some host\" is neither"),
            (after_at("::1:30303"), "brackets"),
            (after_at("[::1]30303"), "no port"),
            (after_at("[::1:30303"), "in brackets is no IPv6 address"),
            (after_at("[127.0.0.1]:30303"), "\"127.0.0.1\" in brackets"),
            (after_at("127.0.0.1:30303?discport=-1"), "discport \"-1\""),
            (after_at("127.0.0.1:30303?port=1"), "found \"port=1\""),
        ] {
            assert!(
                error.starts_with("not an enode URL (enode://<128 hex digits>@<address>:<port>): "),
                "{error}"
            );
            assert!(error.contains(says), "{error:?} does not say {says:?}");
        }
    }
}
