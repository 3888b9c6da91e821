//! Seals: what is signed, by whom it was signed, and signing.

use std::num::NonZero;
use std::sync::{Arc, LazyLock};
use std::thread;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, keccak256};
use alloy_rlp::Encodable;
use secp256k1::{
    All, Message, PublicKey, Secp256k1, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};

use super::{
    error::CliqueError,
    extra::{self, SEAL_BYTES, VANITY_BYTES},
};
use crate::chain::{header::SealedHeader, rlp};

/// Threads that find signers out at the most: more cores are seldom free, and headers do not come faster than four check them.
const FINDERS_MAX: usize = 4;
/// Headers for each of them at the least: a millisecond's work, beside which a thread costs little.
const FINDER_HEADERS: usize = 16;

static CURVE: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// keccak256 of [`unsealed`]: what a seal signs.
pub fn seal_hash(header: &Header) -> B256 {
    keccak256(unsealed(header))
}

/// The header without its seal: RLP of the fifteen fields, `extraData` without its last 65 bytes, and the base fee if there is
/// one. (EIP-225 is older than the base fee; this is what all clients do.)
pub fn unsealed(header: &Header) -> Vec<u8> {
    let extra = &header.extra_data;
    let unsealed = &extra[..extra.len().saturating_sub(SEAL_BYTES)];
    let fields: [&dyn Encodable; 15] = [
        &header.parent_hash,
        &header.ommers_hash,
        &header.beneficiary,
        &header.state_root,
        &header.transactions_root,
        &header.receipts_root,
        &header.logs_bloom,
        &header.difficulty,
        &header.number,
        &header.gas_limit,
        &header.gas_used,
        &header.timestamp,
        &unsealed,
        &header.mix_hash,
        &header.nonce,
    ];
    let mut payload = Vec::with_capacity(640);
    for field in fields {
        field.encode(&mut payload);
    }
    if let Some(base_fee) = header.base_fee_per_gas {
        base_fee.encode(&mut payload);
    }
    let mut signed = Vec::with_capacity(payload.len() + 4);
    rlp::list_prefix(&mut signed, payload.len());
    signed.extend_from_slice(&payload);
    signed
}

/// The address whose key sealed `header`. Costs about 45 us.
///
/// # Errors
/// [`CliqueError::ExtraTooShort`] if there is no seal, [`CliqueError::Seal`] if it is no signature with v 0 or 1.
pub fn signer(header: &Header) -> Result<Address, CliqueError> {
    extra::middle(header)?;
    let (_, seal) = header
        .extra_data
        .split_last_chunk::<SEAL_BYTES>()
        .expect("there is a middle, so there is a seal after it");
    let (signature, v) = (&seal[..64], seal[64]);
    if v > 1 {
        return Err(CliqueError::Seal);
    }
    let recovered = || {
        let id = RecoveryId::try_from(i32::from(v))?;
        let signature = RecoverableSignature::from_compact(signature, id)?;
        CURVE.recover_ecdsa(&Message::from_digest(seal_hash(header).0), &signature)
    };
    let key: Result<PublicKey, secp256k1::Error> = recovered();
    key.map(|key| address(&key)).map_err(|_| CliqueError::Seal)
}

/// Finds out who sealed these headers, on as many threads as there are cores; whoever judges them finds it done, or what failed again.
pub fn find_signers(headers: &[Arc<SealedHeader>]) {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(FINDERS_MAX).min(headers.len() / FINDER_HEADERS);
    if threads < 2 {
        return;
    }
    let find = |headers: &[Arc<SealedHeader>]| {
        for header in headers {
            let _ = header.signer(); // judged by who needs it
        }
    };
    thread::scope(|scope| {
        let mut parts = headers.chunks(headers.len().div_ceil(threads));
        let own = parts.next().unwrap_or_default();
        for part in parts {
            let named = thread::Builder::new().name("cairn-seals".into());
            // Where no more threads are to be had this one does it all, later.
            let _ = named.spawn_scoped(scope, move || find(part));
        }
        find(own);
    });
}

/// Signs `header` with `key`: fills the last 65 bytes of `extraData`, after making it long enough for vanity and seal.
pub fn seal(header: &mut Header, key: &SecretKey) {
    if header.extra_data.len() < VANITY_BYTES + SEAL_BYTES {
        let mut extra = header.extra_data.to_vec();
        extra.resize(VANITY_BYTES + SEAL_BYTES, 0);
        header.extra_data = extra.into();
    }
    put_seal(header, &sign(seal_hash(header), key));
}

/// The seal of what has this seal hash: r, s, v. The same hash and key give the same seal (RFC 6979).
pub fn sign(seal_hash: B256, key: &SecretKey) -> [u8; SEAL_BYTES] {
    let (id, signature) = CURVE
        .sign_ecdsa_recoverable(&Message::from_digest(seal_hash.0), key)
        .serialize_compact();
    let mut seal = [0; SEAL_BYTES];
    seal[..64].copy_from_slice(&signature);
    seal[64] = u8::try_from(i32::from(id)).expect("a recovery id is 0 to 3");
    seal
}

/// Puts a seal in its place, the last 65 bytes of `extraData`, which are there.
pub fn put_seal(header: &mut Header, seal: &[u8; SEAL_BYTES]) {
    let mut extra = header.extra_data.to_vec();
    let start = extra.len() - SEAL_BYTES;
    extra[start..].copy_from_slice(seal);
    header.extra_data = extra.into();
}

/// The address that belongs to `key`.
pub fn address_of(key: &SecretKey) -> Address {
    address(&key.public_key(&CURVE))
}

fn address(key: &PublicKey) -> Address {
    Address::from_raw_public_key(&key.serialize_uncompressed()[1..])
}
