//! An ack, as an initiator reads it: the packet as it is, or its text encrypted to us in the form of EIP-8 or the plain one.
#![no_main]

use cairn_fuzz::input::Input;
use cairn_fuzz::peer::of_eip_8;
use cairn_net::rlpx;
use cairn_net::rlpx::ecies;
use cairn_net::rlpx::entropy::Entropy;
use cairn_net::rlpx::handshake::{AwaitingAck, PACKET_LIMIT_BYTES, PREFIX_BYTES, Step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let form = input.byte() % 3;
    let mut packet = Vec::new();
    let [secret, dialled] = of_eip_8();
    let dialled = rlpx::node_id(&dialled);
    let us = rlpx::node_id(&secret).public_key().expect("a key's id");
    let mut entropy = Entropy::new([1; 32]);
    match form {
        0 => packet.extend_from_slice(input.0),
        1 => {
            let size = (input.0.len() + ecies::OVERHEAD_BYTES) as u16;
            packet.extend_from_slice(&size.to_be_bytes());
            ecies::encrypt(&us, input.0, &size.to_be_bytes(), &mut entropy, &mut packet);
        }
        _ => ecies::encrypt(&us, input.0, &[], &mut entropy, &mut packet),
    }

    let mut auth = Vec::new();
    let mut state = AwaitingAck::start(secret, dialled, &mut entropy, &mut auth)
        .expect("a key's id can be dialled");
    let mut needed = PREFIX_BYTES;
    while needed <= packet.len() {
        match state.read(&mut packet[..needed]) {
            Ok(Step::More {
                state: next,
                needed_bytes,
            }) => {
                assert!(needed_bytes > needed && needed_bytes <= PACKET_LIMIT_BYTES);
                (state, needed) = (next, needed_bytes);
            }
            Ok(Step::Done(link)) => {
                assert_eq!(link.remote, dialled, "it is who was dialled");
                return;
            }
            Err(_) => return,
        }
    }
});
