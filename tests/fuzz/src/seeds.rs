//! The first corpus, made from the vectors of the tests and from generated chains: `run seeds` writes it anew.

use alloy_primitives::{B256, hex};
use cairn::chain::{Genesis, SealedHeader, clique, receipts};
use cairn::era1::EraWriter;
use cairn::generate::{self, Fork, GeneratedBlock, Params};
use cairn::secret::SigningKey;
use cairn::signer;
use cairn_net::p2p::{DisconnectReason, EMPTY_LIST, PING};

use crate::peer::{chain, hello, pack};
use crate::store_files::{self, Part};
use crate::vectors;

/// Target, name and bytes of each input.
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    handshake(&mut |target, name, bytes| seeds.push((target, name.to_owned(), bytes)));
    eth(&mut |target, name, bytes| seeds.push((target, name.to_owned(), bytes)));
    p2p(&mut |target, name, bytes| seeds.push((target, name.to_owned(), bytes)));
    chains(&mut |target, name, bytes| seeds.push((target, name.to_owned(), bytes)));
    signing(&mut |target, name, bytes| seeds.push((target, name.to_owned(), bytes)));
    snapshots(&mut |target, name, bytes| seeds.push((target, name.to_owned(), bytes)));
    for (target, part) in [
        ("store_manifest", Part::Manifest),
        ("store_tip_log", Part::Tip),
        ("store_segment", Part::Segment),
        ("store_run", Part::Run),
    ] {
        let inputs = store_files::seeds(part).into_iter().enumerate();
        seeds.extend(inputs.map(|(n, bytes)| (target, format!("edit-{n}"), bytes)));
    }
    seeds
}

type Put<'a> = &'a mut dyn FnMut(&'static str, &str, Vec<u8>);

fn with(first: &[u8], rest: &[u8]) -> Vec<u8> {
    [first, rest].concat()
}

/// Bytes with their length before them, as `Input::chunk` takes them.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    with(&(bytes.len() as u16).to_le_bytes(), bytes)
}

fn list(items: &[&[u8]]) -> Vec<u8> {
    let payload = items.concat();
    let mut out = Vec::new();
    alloy_rlp::Header {
        list: true,
        payload_length: payload.len(),
    }
    .encode(&mut out);
    with(&out, &payload)
}

fn handshake(put: Put<'_>) {
    let [auth_1, auth_2, auth_3] = [&vectors::AUTH_1[..], &vectors::AUTH_2, &vectors::AUTH_3];
    let [ack_1, ack_2, ack_3] = [&vectors::ACK_1[..], &vectors::ACK_2, &vectors::ACK_3];
    for (target, name, packet) in [
        ("auth", "plain", auth_1),
        ("auth", "eip8", auth_2),
        ("auth", "eip8-more", auth_3),
        ("ack", "plain", ack_1),
        ("ack", "eip8", ack_2),
        ("ack", "eip8-more", ack_3),
    ] {
        put(target, &format!("packet-{name}"), with(&[0], packet));
    }
    // What is inside: any signature shows some key.
    let key = cairn_net::rlpx::node_id(&crate::peer::of_eip_8()[0]).0;
    let (signature, nonce) = ([7; 65], [9; 32]);
    let string = |bytes: &[u8]| alloy_rlp::encode(bytes);
    let mut signature_0 = signature;
    signature_0[64] = 0;
    let fields = [string(&signature_0), string(&key), string(&nonce), vec![4]];
    let fields: Vec<&[u8]> = fields.iter().map(|field| &field[..]).collect();
    put(
        "auth",
        "text-eip8",
        with(&[1], &with(&list(&fields), &[0; 100])),
    );
    let plain = [&signature_0[..], &[3; 32], &key, &nonce, &[0]].concat();
    put("auth", "text-plain", with(&[2], &plain));
    put(
        "ack",
        "text-eip8",
        with(&[1], &with(&list(&fields[1..]), &[0; 100])),
    );
    put(
        "ack",
        "text-plain",
        with(&[2], &[&key[..], &nonce, &[0]].concat()),
    );

    let hello = chunk(&vectors::EIP8_HELLO);
    put("frame", "none", vec![0]);
    put("frame", "one", [&[1][..], &hello, &[50]].concat());
    put(
        "frame",
        "three",
        [
            &[3][..],
            &hello,
            &[1],
            &chunk(&[]),
            &[0],
            &chunk(&[5; 33]),
            &[16],
        ]
        .concat(),
    );
    put(
        "frame",
        "flipped",
        [&[1][..], &hello, &[0, 40, 0, 1]].concat(),
    );
    put(
        "frame",
        "more",
        [&[1][..], &hello, &[0, 0xff, 0xff, 1, 2, 3]].concat(),
    );
}

fn eth(put: Put<'_>) {
    let codes = [
        ("NEW_BLOCK_HASHES", 0x01),
        ("NEW_BLOCK", 0x07),
        ("TRANSACTIONS", 0x02),
        ("GET_HEADERS", 0x03),
        ("HEADERS", 0x04),
        ("GET_BODIES", 0x05),
        ("BODIES", 0x06),
        ("NEW_POOLED", 0x08),
        ("GET_POOLED", 0x09),
        ("POOLED", 0x0a),
        ("GET_RECEIPTS", 0x0f),
        ("RECEIPTS", 0x10),
        ("BLOCK_RANGE", 0x11),
        ("GET_ACCESS_LISTS", 0x12),
        ("ACCESS_LISTS", 0x13),
    ];
    let lines = include_str!("../../../net/vectors/eth.txt").lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, digits) = line.split_once(' ').expect("a name and hex");
        let bytes = hex::decode(digits).expect("hex");
        let version = |text: &str| (68..72).find(|version| text.contains(&version.to_string()));
        if name.starts_with("STATUS") {
            let version: u8 = version(name).expect("a Status is of a version");
            put("status", name, with(&[version - 68], &bytes));
            continue;
        }
        let Some((_, code)) = codes.iter().find(|(prefix, _)| name.starts_with(prefix)) else {
            continue;
        };
        let versions = version(name).map_or(vec![68, 71], |version| vec![version]);
        for version in versions {
            put(
                "eth_message",
                &format!("{name}-eth{version}"),
                with(&[version - 68, *code], &bytes),
            );
        }
        put(
            "snappy_message",
            name,
            with(&[5, 0x10 + code], &pack(&bytes)),
        );
        let frame = [&[2, 5, 0x10 + code][..], &chunk(&bytes)].concat();
        put("session", &format!("{name}-ready"), frame);
    }
    let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    put("snappy_message", "bomb", with(&[5, 0x10], &bomb));
    put(
        "snappy_message",
        "dense",
        [&[5, 0x10, 0x81, 0x01, 0, 0][..], &[0xfe, 1, 0, 0xfe, 1, 0]].concat(),
    );
    put(
        "session",
        "bomb",
        [&[2, 1, 0x16][..], &chunk(&bomb)].concat(),
    );
}

fn p2p(put: Put<'_>) {
    let mut ours = Vec::new();
    hello(69).encode(&mut ours);
    put("hello", "eip8", vectors::EIP8_HELLO.to_vec());
    put("hello", "ours", ours.clone());
    let mut status = Vec::new();
    cairn_net::eth::status::Status::of(chain(), 69).encode(&mut status);
    let hello_frame = [&[1, 0][..], &chunk(&ours)].concat();
    let status_frame = [&[5, 0x10][..], &chunk(&status)].concat();
    let ping = [&[5, PING][..], &chunk(&EMPTY_LIST)].concat();
    put(
        "session",
        "greeting",
        [&[0][..], &hello_frame, &status_frame, &ping].concat(),
    );
    put(
        "session",
        "two-hellos",
        [&[0][..], &hello_frame, &hello_frame].concat(),
    );
    put(
        "session",
        "time",
        [
            &[2][..],
            &[2, 0, 0xff, 0xff],
            &ping,
            &[2, 0, 0xff, 0xff, 2, 0, 0xff, 0xff],
        ]
        .concat(),
    );
    put(
        "session",
        "goodbye",
        [&[2, 5, 1][..], &chunk(&[0xc1, 4])].concat(),
    );
    put(
        "session",
        "raw",
        [&[2, 3, 0][..], &chunk(&[7; 64])].concat(),
    );
    for (name, bytes) in [
        ("list", DisconnectReason::TooManyPeers.encode()),
        ("bare", vec![4]),
        ("empty", vec![0xc0]),
        ("long", vec![0xc3, 4, 0x80, 0x80]),
        ("unknown", vec![0xc2, 0x81, 0xff]),
    ] {
        put("disconnect", name, bytes);
    }
    let id = "6f8a80d14311c39f35f516fa664deaaaa13e85b2f7493f37f6144d86991ec012937307647bd3b9a82abe2974e1407241d54947bbb39763a4cac9f77166ad92a0";
    for (name, rest) in [
        ("ip4", "10.3.58.6:30303?discport=30301"),
        ("ip6", "[2001:db8::1]:30303"),
        ("name", "node-1.example.org:30303"),
        ("wrong", "127.0.0.256:70000?port=1"),
    ] {
        put("enode", name, format!("enode://{id}@{rest}").into_bytes());
    }
    put("enode", "id", id.as_bytes().to_vec());
}

fn chains(put: Put<'_>) {
    let chain = |fork, body_bytes| {
        let params = Params {
            blocks: 3,
            txs_per_block: 3,
            seed: 5,
            fork,
            body_bytes: Some(body_bytes),
            ..Params::default()
        };
        let (generated, blocks) = generate::blocks(&params);
        (generated, blocks.collect::<Vec<GeneratedBlock>>())
    };
    let (london, london_blocks) = chain(Fork::London, 700);
    let (prague, prague_blocks) = chain(Fork::Prague, 2000);
    put("genesis", "dev", Genesis::dev_json().as_bytes().to_vec());
    put(
        "genesis",
        "london",
        london.genesis_json.clone().into_bytes(),
    );
    put(
        "genesis",
        "prague",
        prague.genesis_json.clone().into_bytes(),
    );
    put("genesis", "besu", br#"{"config":{"chainId":"0xffffffffffffffffff","londonBlock":0,"clique":{"blockperiodseconds":5,"epochlength":30000}},"difficulty":"0x1","gasLimit":"9000000","extraData":"0x","alloc":{"00":{"balance":"1","privateKey":"k","storage":{"0x0":"0x1"},"code":"0x00"}}}"#.to_vec());
    put(
        "genesis",
        "none",
        br#"{"difficulty":1,"gasLimit":1,"alloc":{}}"#.to_vec(),
    );

    let firsts = [
        ("mainnet", Genesis::mainnet().header),
        ("london-0", london.genesis.header.clone()),
        ("prague-0", prague.genesis.header.clone()),
        ("london-1", london_blocks[0].header.clone()),
        ("prague-1", prague_blocks[0].header.clone()),
    ];
    for (name, header) in firsts {
        put("header", name, header.raw.to_vec());
    }
    for (name, chain, blocks) in [("london", 1, &london_blocks), ("prague", 0, &prague_blocks)] {
        for (n, block) in blocks.iter().enumerate() {
            // Chain, time and gas of the header that is made for it.
            let time = if name == "prague" { 3 } else { 1 };
            put(
                "body",
                &format!("{name}-{n}"),
                with(&[chain, time, 100, 0], &block.body),
            );
            put(
                "receipts",
                &format!("{name}-{n}-eth69"),
                with(&[1], &block.receipts),
            );
            let eth68 = receipts::convert(
                receipts::Form::Eth69,
                receipts::Form::Eth68,
                &block.receipts,
            );
            put(
                "receipts",
                &format!("{name}-{n}-eth68"),
                with(&[0], &eth68.expect("receipts")),
            );
        }
        let file: Vec<u8> = blocks
            .iter()
            .take(2)
            .flat_map(generate::encode_block)
            .collect();
        put("block_file", name, file);
    }
    let log = list(&[
        &alloy_rlp::encode([5_u8; 20]),
        &list(&[&alloy_rlp::encode(B256::ZERO)]),
        &[0x82, 1, 2],
    ]);
    put(
        "receipts",
        "logs-eth69",
        with(
            &[1],
            &list(&[&list(&[
                &[2],
                &[1],
                &[0x82, 0x52, 0x08],
                &list(&[&log, &log]),
            ])]),
        ),
    );
    put("block_file", "empty", vec![]);
    put("block_file", "claim", vec![0xfb, 2, 0xff, 0, 0, 1, 2]);

    era1(put, &london.genesis, &london_blocks);
    let mut literal = Vec::new();
    crate::snappy::literal(&mut literal, &[3; 300]);
    put(
        "snappy_elements",
        "literal",
        with(&300_u16.to_le_bytes(), &literal),
    );
    put(
        "snappy_elements",
        "copy",
        with(&65_u16.to_le_bytes(), &[0, 7, 0xfe, 1, 0]),
    );
}

fn era1(put: Put<'_>, genesis: &Genesis, blocks: &[GeneratedBlock]) {
    let mut writer = EraWriter::new(Vec::new()).expect("memory");
    let mut entries = vec![1];
    let mut entry = |kind: u8, is_packed: u8, data: &[u8]| {
        entries.extend_from_slice(&[kind, is_packed]);
        entries.extend_from_slice(&chunk(data));
    };
    let mut block =
        |header: &SealedHeader, body: &[u8], receipts: &[u8], td: alloy_primitives::U256| {
            writer
                .block(
                    (header.number(), header.hash),
                    &header.raw,
                    body,
                    receipts,
                    td,
                )
                .expect("memory");
            entry(0, 1, &header.raw);
            entry(1, 1, body);
            entry(2, 1, receipts);
            entry(3, 0, &td.to_le_bytes::<32>());
        };
    let first = &genesis.header;
    block(first, &genesis.body, &[0xc0], first.header.difficulty);
    for made in blocks {
        let eth68 = receipts::convert(receipts::Form::Eth69, receipts::Form::Eth68, &made.receipts);
        block(&made.header, &made.body, &eth68.expect("receipts"), made.td);
    }
    let (file, _) = writer.finish().expect("memory");
    put("era1", "entries", entries);
    put("era1", "file", with(&[0], &file));
    let made = [
        &[2, 1][..],
        &[5, 0],
        &chunk(b"extra"),
        &chunk(b"body"),
        &chunk(b"receipts"),
        &[7, 0],
    ]
    .concat();
    put("era1", "blocks", made);
}

/// Key files, and what is said to a signer and by it.
fn signing(put: Put<'_>) {
    // go-ethereum's accounts/keystore/testdata/keystore/aaa, whose password is foobar.
    let geth = r#"{"address":"f466859ead1932d743d622cb74fc058882e8648a","crypto":{"cipher":"aes-128-ctr","ciphertext":"cb664472deacb41a2e995fa7f96fe29ce744471deb8d146a0e43c7898c9ddd4d","cipherparams":{"iv":"dfd9ee70812add5f4b8f89d0811c9158"},"kdf":"scrypt","kdfparams":{"dklen":32,"n":8,"p":16,"r":8,"salt":"0d6769bf016d45c479213990d6a08d938469c4adad8a02ce507b4a4e7b7739f1"},"mac":"bac9af994b15a45dd39669fc66f9aa8a3b9dd8c22cb16e4d8d7ea089d0f1a1a9"},"id":"472e8b3d-afb6-45b5-8111-72c89895099a","version":3}"#;
    // The definition's own for PBKDF2, with fewer rounds.
    let pbkdf2 = r#"{"Crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},"ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2","kdfparams":{"c":26,"dklen":32,"prf":"hmac-sha256","salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},"mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;
    put("keystore", "geth", geth.into());
    put("keystore", "pbkdf2", pbkdf2.into());
    put(
        "keystore",
        "old",
        geth.replace("\"version\":3", "\"version\":\"1\"").into(),
    );
    put(
        "keystore",
        "costly",
        geth.replace("\"n\":8", "\"n\":1048576").into(),
    );

    let header = Genesis::dev().header.header.clone();
    let unsealed = clique::unsealed(&header);
    put("signer_request", "sealed", alloy_rlp::encode(&header));
    put("signer_request", "unsealed", unsealed.clone());
    let rlp = alloy_rlp::encode(&header);
    let slot = [
        &[7, 0, 0, 0, 0, 0, 0, 0][..],
        &[0; 8],
        &(rlp.len() as u32).to_le_bytes(),
        &rlp,
    ]
    .concat();
    put("signed_slot", "whole", slot.clone());
    put("signed_slot", "cut", slot[..300].to_vec());
    let key = SigningKey::from_bytes(&[1; 32]).expect("a key");
    let request = signer::request(key.address(), &header);
    put("signer_answer", "request", request.into());
    let mut sealed = header;
    signer::Signer::Key(key)
        .seal(&mut sealed)
        .expect("by our own key");
    let extra = &sealed.extra_data;
    let seal = hex::encode(&extra[extra.len() - 65..]);
    let answer = |what: String| format!("{{\"jsonrpc\":\"2.0\",\"id\":1,{what}}}").into_bytes();
    put(
        "signer_answer",
        "seal",
        answer(format!("\"result\":\"0x{seal}\"")),
    );
    put(
        "signer_answer",
        "from-27",
        answer(format!("\"result\":\"0x{}1b\"", &seal[..128])),
    );
    put(
        "signer_answer",
        "refusal",
        answer("\"error\":{\"code\":-32000,\"message\":\"no\"}".into()),
    );
}

/// Two snapshots of three signers, with recents and votes.
fn snapshots(put: Put<'_>) {
    let number = |number: u64| alloy_rlp::encode(number);
    let [a, b, c, d] = [1, 2, 3, 4].map(|byte| alloy_rlp::encode([byte; 20]));
    let hash = |byte: u8| alloy_rlp::encode(B256::repeat_byte(byte));
    let snapshot = |at: u64, votes: &[u8]| {
        let recents = [list(&[&number(at - 1), &b]), list(&[&number(at), &a])];
        list(&[
            &number(at),
            &hash(at as u8),
            &list(&[&a, &b, &c]),
            &list(&[&recents[0], &recents[1]]),
            votes,
        ])
    };
    let open = list(&[
        &list(&[&a, &number(5), &d, &number(1)]),
        &list(&[&c, &number(10), &b, &number(0)]),
    ]);
    let (first, second) = (snapshot(12, &open), snapshot(1100, &list(&[])));
    let file = |kept: &[u8]| list(&[&number(1), &hash(0xee), kept]);
    put("snapshots", "none", file(&list(&[])));
    put("snapshots", "one", file(&list(&[&first])));
    put("snapshots", "two", file(&list(&[&first, &second])));
    put("snapshots", "not-in-order", file(&list(&[&second, &first])));
}
