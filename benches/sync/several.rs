//! Eight peers, each at the end of a line of its own: how the rate grows with them, and what one slow line costs.

use std::time::Duration;

use cairn_net::enode::{Enode, EnodeUrl};

use crate::Bench;
use crate::ceiling::Sample;
use crate::chains::Chain;
use crate::node::{Follower, anon_kib};
use crate::program::Node;
use crate::relay::Relay;
use crate::table::Samples;

/// Bytes a second of each line: 40 Mbit/s, so that eight of them leave two cores some time.
const LINE: f64 = 5e6;
/// A slow line's.
const SLOW_LINE: f64 = LINE / 50.0;
const PEERS: usize = 8;
/// How long a node that has caught up is left alone before its memory is looked at.
const REST: Duration = Duration::from_secs(10);

pub(crate) fn several(bench: &mut Bench) {
    let chain = Chain::full(&bench.root, bench.blocks);
    let dir = tempfile::tempdir_in(&bench.root).unwrap();
    let peers: Vec<Node> = (0..PEERS)
        .map(|at| {
            let folder = dir.path().join(format!("peer{at}"));
            chain.linked(&folder);
            Node::start(&folder, &[])
        })
        .collect();
    let of_wire = 1.0 / Sample::of(&chain.dir).compresses_to();
    for count in [1, 2, 4, 8] {
        let [mut own, mut lines] = [const { Samples::new() }; 2];
        own.push(fetch(bench, &chain, &peers, &vec![LINE; count], |_| {}));
        lines.push(LINE / 1e6 * of_wire * count as f64);
        let what = format!("peers at 5 MB/s each on the wire: {count}, MB/s of blocks");
        bench
            .table
            .rate(&what, &own, Some(("the lines", &lines)), "");
    }
    let (mut equal, mut one_slow) = (Samples::new(), Samples::new());
    let mut idle = Samples::new();
    for _ in 0..bench.rounds {
        equal.push(fetch(bench, &chain, &peers, &[LINE; PEERS], |_| {}));
        let mut lines = [LINE; PEERS];
        lines[0] = SLOW_LINE;
        let rest = |follower: &mut Follower| {
            follower.reach(chain.last);
            std::thread::sleep(REST);
            idle.push(anon_kib(follower.pid()) as f64 / 1024.0);
        };
        one_slow.push(fetch(bench, &chain, &peers, &lines, rest));
    }
    bench.table.rate(
        "8 such peers, one of them 50 times slower, MB/s of blocks",
        &one_slow,
        Some(("8 equal ones", &equal)),
        "80 %",
    );
    bench.table.row(
        "RssAnon 10 s after that, caught up, with 8 peers, MiB",
        &idle,
        None,
        "16",
    );
}

/// Fetches blocks from as many of these peers as there are lines, some seconds long, and gives the rate in MB/s of blocks. The node
/// is then handed on.
fn fetch(
    bench: &mut Bench,
    chain: &Chain,
    peers: &[Node],
    lines: &[f64],
    then: impl FnOnce(&mut Follower),
) -> f64 {
    let relays: Vec<(Relay, String)> = peers.iter().zip(lines).map(relayed).collect();
    let enodes: Vec<&str> = relays.iter().map(|(_, enode)| enode.as_str()).collect();
    let dir = tempfile::tempdir_in(&bench.root).unwrap();
    let mut follower = Follower::start(
        &dir.path().join("follower"),
        &["--bootnodes", &enodes.join(",")],
    );
    let wanted = (chain.last / PEERS as u64 * lines.len() as u64).min(chain.last);
    let (head, time) = follower.reach(wanted);
    then(&mut follower);
    let what = format!("peers: {}", lines.len());
    bench.peak(&what, follower.peak_mib());
    chain.bytes(head) as f64 / 1e6 / time.as_secs_f64()
}

/// A line to this peer, and where to dial it.
fn relayed((peer, line): (&Node, &f64)) -> (Relay, String) {
    let url: EnodeUrl = peer.enode.parse().unwrap();
    let enode = url.enode().unwrap();
    let relay = Relay::start(enode.tcp_addr(), *line);
    let near = Enode {
        tcp: relay.addr.port(),
        udp: relay.addr.port(),
        ..enode
    };
    (relay, near.to_string())
}
