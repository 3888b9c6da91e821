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
