//! An auth, as a recipient reads it: the packet as it is, or its text encrypted to us in the form of EIP-8 or the plain one.
#![no_main]

use cairn_fuzz::input::Input;
use cairn_fuzz::peer::of_eip_8;
use cairn_net::rlpx;
use cairn_net::rlpx::ecies;
use cairn_net::rlpx::entropy::Entropy;
use cairn_net::rlpx::handshake::{AwaitingAuth, PACKET_LIMIT_BYTES, PREFIX_BYTES, Step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let form = input.byte() % 3;
    let mut packet = Vec::new();
    let [_, secret] = of_eip_8();
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

    let mut state = AwaitingAuth::new(secret);
    let mut needed = PREFIX_BYTES;
    let mut entropy = Entropy::new([2; 32]);
    let mut ack = Vec::new();
    while needed <= packet.len() {
        match state.read(&mut packet[..needed], &mut entropy, &mut ack) {
            Ok(Step::More {
                state: next,
                needed_bytes,
            }) => {
                assert!(ack.is_empty() && needed_bytes > needed);
                assert!(needed_bytes <= PACKET_LIMIT_BYTES, "held for a stranger");
                (state, needed) = (next, needed_bytes);
            }
            Ok(Step::Done(link)) => {
                assert!(link.remote.public_key().is_some());
                assert!((PREFIX_BYTES..=PACKET_LIMIT_BYTES).contains(&ack.len()));
                return;
            }
            Err(_) => {
                assert!(ack.is_empty(), "nothing is said to who is refused");
                return;
            }
        }
    }
});
