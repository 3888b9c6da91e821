//! Walks over RLP lists without knowing what is in them.

use alloy_rlp::Header;

/// The payload of the one list that `bytes` are. `None` if they are something else.
pub(crate) fn list(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    let header = Header::decode(&mut rest).ok()?;
    (header.list && header.payload_length == rest.len()).then_some(rest)
}

/// The items of a list's payload, each with its prefix. `None` if they do not fill it exactly.
pub(crate) fn items(payload: &[u8]) -> Option<Vec<&[u8]>> {
    let mut items = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let mut after = rest;
        let header = Header::decode(&mut after).ok()?;
        after = after.get(header.payload_length..)?;
        let (item, left) = rest.split_at(rest.len() - after.len());
        items.push(item);
        rest = left;
    }
    Some(items)
}

/// The bytes of a string item without its prefix; a list item as it is. So a transaction becomes what it is hashed as (EIP-2718).
pub(crate) fn unwrap_string(item: &[u8]) -> &[u8] {
    let mut rest = item;
    match Header::decode(&mut rest) {
        Ok(header) if !header.list => rest,
        _ => item,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn items_of_a_list_keep_their_prefixes() {
        let bytes = [0xc7, 0x01, 0x83, b'c', b'a', b't', 0xc1, 0x05];
        let payload = list(&bytes).unwrap();
        let items = items(payload).unwrap();
        assert_eq!(
            items,
            [&[0x01][..], &[0x83, b'c', b'a', b't'], &[0xc1, 0x05]]
        );
        assert_eq!(unwrap_string(items[0]), [0x01]);
        assert_eq!(unwrap_string(items[1]), b"cat");
        assert_eq!(unwrap_string(items[2]), [0xc1, 0x05]);
    }

    #[test]
    fn what_is_no_exact_list_is_none() {
        for bytes in [&[][..], &[0x80], &[0xc1], &[0xc0, 0x00], &[0xf9, 0xff]] {
            assert_eq!(list(bytes), None, "{bytes:?}");
        }
        assert_eq!(items(&[0x83, b'c']), None);
        assert_eq!(items(&[]), Some(vec![]));
    }
}
