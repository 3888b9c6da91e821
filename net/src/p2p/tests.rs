//! The promises of p2p: EIP-8's Hello is read, reasons in every form, the highest version in common.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::rlpx::vectors::EIP8_HELLO;

#[test]
fn the_hello_of_eip_8_is_read() {
    let hello = Hello::decode(&EIP8_HELLO).unwrap();
    assert_eq!(hello.version, 55); // the EIP's text says 22, its bytes 55
    assert_eq!(hello.client, "kneth/v0.91/plan9");
    let capability = |name: &str, version| Capability {
        name: name.to_owned(),
        version,
    };
    assert_eq!(
        hello.capabilities,
        [capability("eth", 61), capability("mork", 22)]
    );
    assert_eq!(hello.port, 9999);
    assert!(hello.id.to_string().starts_with("fda1cff674c90c9a"));
}

#[test]
fn a_hello_survives_the_wire_and_what_follows_it_is_ignored() {
    let capability = |version| Capability {
        name: "eth".to_owned(),
        version,
    };
    let hello = Hello {
        version: 5,
        client: "cairn/v0.1.0".to_owned(),
        capabilities: vec![capability(69), capability(68)],
        port: 30303,
        id: NodeId([7; 64]),
    };
    let mut payload = Vec::new();
    hello.encode(&mut payload);
    assert_eq!(Hello::decode(&payload).unwrap(), hello);
    payload.extend([1, 2, 3]);
    assert_eq!(Hello::decode(&payload).unwrap(), hello);
    for len in 0..payload.len() - 3 {
        assert!(Hello::decode(&payload[..len]).is_err(), "{len}");
    }
}

#[test]
fn a_clients_name_cannot_write_to_the_terminal() {
    assert_eq!(
        printable(b"a\x1b[2Jb\n\xffc"),
        "a\u{fffd}[2Jb\u{fffd}\u{fffd}c"
    );
}

#[test]
fn the_highest_version_that_both_speak_is_chosen() {
    let hello = |versions: &[u64]| Hello {
        version: 5,
        client: String::new(),
        capabilities: versions
            .iter()
            .map(|version| Capability {
                name: "eth".to_owned(),
                version: *version,
            })
            .collect(),
        port: 0,
        id: NodeId([0; 64]),
    };
    assert_eq!(hello(&[68, 69, 70]).highest_eth(&[69, 68]), Some(69));
    assert_eq!(hello(&[68 + 256, 68]).highest_eth(&[69, 68]), Some(68));
    assert_eq!(hello(&[69 + 256]).highest_eth(&[69, 68]), None);
    assert_eq!(
        hello(&[200]).highest_eth(&[200]),
        None,
        "announced but not spoken"
    );
}

#[test]
fn every_reason_has_its_byte() {
    for code in 0..=255 {
        let reason = DisconnectReason::from_code(code);
        assert_eq!(reason.code(), code);
        assert_eq!(DisconnectReason::decode(&reason.encode()), Some(reason));
    }
    assert_eq!(
        DisconnectReason::from_code(0x10),
        DisconnectReason::Subprotocol
    );
    assert_eq!(DisconnectReason::TooManyPeers.encode(), [0xc1, 0x04]);
    assert_eq!(DisconnectReason::Requested.encode(), [0xc1, 0x80]);
}

#[test]
fn reasons_are_read_in_every_form() {
    let read = DisconnectReason::decode;
    let too_many = Some(DisconnectReason::TooManyPeers);
    assert_eq!(read(&[0xc1, 0x04]), too_many);
    assert_eq!(read(&[0x04]), too_many);
    assert_eq!(read(&[0xc3, 0x04, 0x80, 0x80]), too_many, "more elements");
    for empty in [
        &[][..],
        &[0xc0],
        &[0x80],
        &[0x00],
        &[0xc1, 0x80],
        &[0xc1, 0x00],
    ] {
        assert_eq!(read(empty), Some(DisconnectReason::Requested), "{empty:x?}");
    }
    assert_eq!(
        read(&[0xc2, 0x81, 0xff]),
        Some(DisconnectReason::Unknown(0xff))
    );
    for not in [
        &[0xc2, 0x04][..],
        &[0xc5],
        &[0x82, 1, 2],
        &[0xc1, 0xc0],
        &[2, 4, 0xc1, 4],
    ] {
        assert_eq!(read(not), None, "{not:x?}");
    }
}
