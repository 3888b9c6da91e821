//! Peers that are named by host: a name is looked up while the node runs, since its address may come late or change.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::time::Duration;

use cairn_net::enode::{EnodeUrl, NodeId};
use cairn_net::reactor::{Command, Handle, SendError};
use crossbeam_channel::{Receiver, RecvTimeoutError};

/// How often a peer that is not connected is looked up: a resolver comes back, and a name moves, within minutes.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(30);

/// A peer whose host is a name.
#[derive(Clone, Debug)]
pub struct Named {
    /// Who it is, and the name.
    pub url: EnodeUrl,
    /// It is to be trusted; else it is to be dialled.
    pub is_trusted: bool,
}

/// Looks names up, and tells the net threads what it finds.
pub struct NamesRole {
    names: Vec<Name>,
    net: Handle,
}

struct Name {
    named: Named,
    /// The address that net knows.
    known: Option<IpAddr>,
    /// That it cannot be resolved was told.
    is_told: bool,
}

impl NamesRole {
    /// For these; what is found is said to `net`.
    pub fn new(named: Vec<Named>, net: Handle) -> NamesRole {
        NamesRole {
            names: named.into_iter().map(Name::new).collect(),
            net,
        }
    }

    /// Works until `stop` is closed, or until net has ended. A lookup may take as long as the system's resolver likes.
    pub fn run(mut self, stop: &Receiver<()>) {
        loop {
            let peers = self.net.connected();
            let connected = peers.iter().map(|peer| peer.info.id).collect();
            for name in &mut self.names {
                let Some((ip, commands)) = name.look(&connected, resolve) else {
                    continue;
                };
                let sent = commands
                    .into_iter()
                    .try_for_each(|command| self.net.send(command));
                match sent {
                    Ok(()) => name.known = Some(ip),
                    Err(SendError::Full(_)) => {} // the next time, all of it
                    Err(SendError::Stopped(_)) => return,
                }
            }
            match stop.recv_timeout(LOOKUP_INTERVAL) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

impl Name {
    fn new(named: Named) -> Name {
        Name {
            named,
            known: None,
            is_told: false,
        }
    }

    /// An address that net does not know, and what it is to be told. One that is connected is not looked for.
    fn look(
        &mut self,
        connected: &HashSet<NodeId>,
        resolve: impl FnOnce(&EnodeUrl) -> io::Result<IpAddr>,
    ) -> Option<(IpAddr, Vec<Command>)> {
        let url = &self.named.url;
        if self.known.is_some() && connected.contains(&url.id) {
            return None;
        }
        let ip = match resolve(url) {
            Ok(ip) => ip,
            Err(error) => {
                if !std::mem::replace(&mut self.is_told, true) {
                    log::warn!(
                        "The host {} of peer {} cannot be resolved: {error}; it is looked up again every {} s",
                        url.host,
                        url.id.short(),
                        LOOKUP_INTERVAL.as_secs()
                    );
                }
                return None;
            }
        };
        self.is_told = false;
        if self.known == Some(ip) {
            return None;
        }
        log::info!("Peer {} is {} at {ip}", url.id.short(), url.host);
        let node = url.at(ip);
        let commands = match (self.named.is_trusted, self.known) {
            (true, _) => vec![Command::Trust(node)],
            (false, None) => vec![Command::AddStatic(node)],
            (false, Some(_)) => vec![Command::Remove(url.id), Command::AddStatic(node)],
        };
        Some((ip, commands))
    }
}

fn resolve(url: &EnodeUrl) -> io::Result<IpAddr> {
    let mut addresses = (url.host.as_str(), url.tcp).to_socket_addrs()?;
    let first = addresses.next().ok_or(io::ErrorKind::NotFound)?;
    Ok(first.ip())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_that_comes_late_or_moves_is_dialled_where_it_is_and_one_that_is_connected_is_left_alone()
     {
        let url = EnodeUrl {
            id: NodeId([7; 64]),
            host: "c.example".into(),
            tcp: 30303,
            udp: 30303,
        };
        let [one, two]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        let none = HashSet::new();
        let mut name = Name::new(Named {
            url: url.clone(),
            is_trusted: false,
        });
        let late = name.look(&none, |_| Err(io::ErrorKind::NotFound.into()));
        assert!(late.is_none() && name.is_told);
        let (ip, commands) = name.look(&none, |_| Ok(one)).unwrap();
        assert!(matches!(&commands[..], [Command::AddStatic(node)] if *node == url.at(one)));
        // It did not get there: the same again.
        assert!(name.look(&none, |_| Ok(one)).is_some());
        name.known = Some(ip);
        assert!(name.look(&none, |_| Ok(one)).is_none());
        let connected = HashSet::from([url.id]);
        assert!(name.look(&connected, |_| panic!("looked up")).is_none());
        let (_, commands) = name.look(&none, |_| Ok(two)).unwrap();
        assert!(
            matches!(&commands[..], [Command::Remove(id), Command::AddStatic(node)] if *id == url.id && *node == url.at(two))
        );
        let mut trusted = Name::new(Named {
            url: url.clone(),
            is_trusted: true,
        });
        let (_, commands) = trusted.look(&connected, |_| Ok(two)).unwrap();
        assert!(matches!(&commands[..], [Command::Trust(node)] if *node == url.at(two)));
    }
}
