//! One peer that has everything: how fast another catches up with it, and what each thread of both spends.

use crate::Bench;
use crate::ceiling::Sample;
use crate::chains::Chain;
use crate::node::{self, Cpu, Follower};
use crate::program::{Node, data};
use crate::table::Samples;

const AIM: &str = "80 %";

/// How one catch-up went.
struct Run {
    seconds: f64,
    /// Of these, how many the store's thread spent in commits.
    committing: f64,
    peer: Cpu,
    follower: Cpu,
    peak_mib: f64,
}

fn catch_up(bench: &Bench, chain: &Chain) -> Run {
    let dir = tempfile::tempdir_in(&bench.root).unwrap();
    let serving = dir.path().join("peer");
    chain.linked(&serving);
    let peer = Node::start(&serving, &[]);
    let before = node::cpu(peer.child.id());
    let mut args = vec!["--bootnodes", &peer.enode];
    args.extend(chain.args.iter().map(String::as_str));
    let mut follower = Follower::start(&dir.path().join("follower"), &args);
    let (_, time) = follower.reach(chain.last);
    let (peer, of_follower) = (
        node::cpu(peer.child.id()).since(&before),
        node::cpu(follower.pid()),
    );
    Run {
        seconds: time.as_secs_f64(),
        committing: follower.committing(chain.last).as_secs_f64(),
        peer,
        follower: of_follower,
        peak_mib: follower.peak_mib(),
    }
}

/// What a chain is counted in.
struct Unit {
    /// Rates are of these in a second.
    rate: &'static str,
    /// How many of them the chain has, and how many the blocks that the ceilings are taken of.
    amount: f64,
    sampled: f64,
    /// Costs are told for so many of them, in so many parts of a second.
    cost: &'static str,
    cost_amount: f64,
    cost_parts: f64,
}

impl Unit {
    fn megabytes(chain: &Chain, sample: &Sample) -> Unit {
        Unit {
            rate: "MB/s",
            amount: chain.bytes(chain.last) as f64 / 1e6,
            sampled: sample.bytes as f64 / 1e6,
            cost: "CPU s per GB",
            cost_amount: 1000.0,
            cost_parts: 1.0,
        }
    }

    fn blocks(what: &'static str, chain: &Chain, sample: &Sample) -> Unit {
        Unit {
            rate: what,
            amount: chain.last as f64,
            sampled: sample.blocks() as f64,
            cost: "CPU us each",
            cost_amount: 1.0,
            cost_parts: 1e6,
        }
    }
}

/// Blocks with bodies of 60 kB.
pub(crate) fn full(bench: &mut Bench) {
    let chain = Chain::full(&bench.root, bench.blocks);
    let sample = Sample::of(&chain.dir);
    let unit = Unit::megabytes(&chain, &sample);
    let what = format!("{} blocks of 60 kB from one peer", chain.last);
    measure(bench, bench.rounds, &what, &chain, &sample, &unit);
    root(bench, &sample, &unit);
}

/// Empty blocks: headers are all that is asked for.
pub(crate) fn headers(bench: &mut Bench) {
    let chain = Chain::empty(&bench.root, bench.headers);
    let sample = Sample::of_headers(&chain.dir);
    let unit = Unit::blocks("headers/s", &chain, &sample);
    let what = format!("{} headers from one peer", chain.last);
    // So many take more than a minute and are their own average.
    measure(bench, 1, &what, &chain, &sample, &unit);
}

/// Real blocks, where they link.
pub(crate) fn mainnet(bench: &mut Bench) {
    let what = "mainnet's blocks 1 to 8191 from one peer";
    let Some(data) = data() else {
        bench
            .table
            .not_run(what, "CAIRN_DATA names no folder of them");
        return;
    };
    let chain = Chain::mainnet(&bench.root, &data);
    let sample = Sample::of_headers(&chain.dir);
    let unit = Unit::blocks("blocks/s", &chain, &sample);
    measure(bench, bench.rounds, what, &chain, &sample, &unit);
}

/// What made the check slow.
fn root(bench: &mut Bench, sample: &Sample, unit: &Unit) {
    let [mut ours, mut alloys] = samples();
    for _ in 0..bench.rounds {
        let [our, alloy] = sample.ordered();
        ours.push(our / unit.sampled * unit.cost_amount);
        alloys.push(alloy / unit.sampled * unit.cost_amount);
    }
    let what = format!("root of the transactions, {}", unit.cost);
    bench
        .table
        .row(&what, &ours, Some(("alloy-trie", &alloys)), "300 %");
}

fn measure(
    bench: &mut Bench,
    rounds: usize,
    what: &str,
    chain: &Chain,
    sample: &Sample,
    unit: &Unit,
) {
    let cores = std::thread::available_parallelism().unwrap().get() as f64;
    let [mut rate, mut single, mut shared, mut committing] = samples();
    let [
        mut net,
        mut sync,
        mut checking,
        mut storing,
        mut busiest,
        mut all,
        mut peer,
    ] = samples();
    let [mut receive, mut check, mut slower] = samples();
    let [mut roots, mut store, mut seal] = samples();
    let mut peak_mib = 0_f64;
    for _ in 0..rounds {
        let floor = sample.floor(&bench.root);
        let run = catch_up(bench, chain);
        peak_mib = peak_mib.max(run.peak_mib);
        let cost =
            |seconds: f64, amount: f64| seconds / amount * unit.cost_amount * unit.cost_parts;
        let slowest = floor.receive.max(floor.check());
        receive.push(cost(floor.receive, unit.sampled));
        check.push(cost(floor.check(), unit.sampled));
        roots.push(cost(floor.roots, unit.sampled));
        store.push(cost(floor.store, unit.sampled));
        seal.push(cost(floor.seal, unit.sampled));
        slower.push(cost(slowest, unit.sampled));
        single.push(unit.sampled / slowest);

        let Run { follower, .. } = &run;
        let [of_net, of_sync, of_store] =
            ["net", "sync", "store"].map(|name| follower.thread(name));
        let run_cost = |seconds| cost(seconds, unit.amount);
        net.push(run_cost(of_net));
        sync.push(run_cost(of_sync));
        checking.push(run_cost(follower.all - of_net));
        storing.push(run_cost(of_store));
        busiest.push(run_cost(of_net.max(of_sync).max(of_store)));
        all.push(run_cost(follower.all));
        peer.push(run_cost(run.peer.all));
        rate.push(unit.amount / run.seconds);
        committing.push(100.0 * run.committing / run.seconds);
        shared.push(unit.amount * cores / (follower.all + run.peer.all));
    }
    let table = &mut bench.table;
    let by_clock = format!("{what}, {}", unit.rate);
    table.rate(
        &by_clock,
        &rate,
        Some(("the slower of receive and check", &single)),
        AIM,
    );
    let no_idle = format!("{cores} cores, never idle");
    table.rate(
        "the same beside what the cores allow",
        &rate,
        Some((&no_idle, &shared)),
        "",
    );
    table.row(
        "of its time, the store is in commits, percent",
        &committing,
        None,
        "",
    );
    let cost = |thread: &str| format!("{thread}, {}", unit.cost);
    table.row(
        &cost("the busiest thread"),
        &busiest,
        Some(("the slower of both", &slower)),
        AIM,
    );
    table.row(&cost("net thread"), &net, Some(("receive", &receive)), "");
    table.row(&cost("sync thread"), &sync, Some(("check", &check)), "");
    table.row(
        &cost("store thread, without its packers"),
        &storing,
        None,
        "",
    );
    table.row(
        &cost("sync, store and their helpers"),
        &checking,
        Some(("check", &check)),
        "",
    );
    table.row(
        &cost("ceiling of the check: roots and hash"),
        &roots,
        None,
        "",
    );
    table.row(&cost("... compression and append"), &store, None, "");
    table.row(&cost("... recovery of the seal"), &seal, None, "");
    table.row(&cost("all threads of the full node"), &all, None, "");
    table.row(&cost("all threads of its peer"), &peer, None, "");
    bench.peak(what, peak_mib);
}

fn samples<const N: usize>() -> [Samples; N] {
    [const { Samples::new() }; N]
}
