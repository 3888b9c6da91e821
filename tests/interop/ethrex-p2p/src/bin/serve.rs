//! Serves a chain with ethrex's own network code from its own store in memory, until it is killed: what
//! `tests/interop/serving/run` measures.

use std::path::PathBuf;

use cairn_interop_ethrex_p2p::chain::Chain;
use cairn_interop_ethrex_p2p::peer::Peer;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Of the node's secret key, each byte.
const KEY: u8 = 7;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(genesis), Some(era1), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        println!("usage: serve GENESIS.JSON CHAIN.ERA1");
        std::process::exit(2);
    };
    let peer = Peer::new(&genesis, KEY).await;
    // Dropped when it is taken: what is served comes from the store.
    peer.take(&Chain::read(&era1)).await;
    println!("{}", peer.listen().await);
    std::future::pending().await
}
