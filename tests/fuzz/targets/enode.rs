//! Enode URLs and node ids: what is read is printed and read as the same.
#![no_main]

use cairn_net::enode::{Enode, EnodeUrl, NodeId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match text.parse::<EnodeUrl>() {
        Ok(url) => {
            assert!(url.id.public_key().is_some() && url.tcp != 0 && !url.host.is_empty());
            match url.enode() {
                Some(enode) => assert_eq!(enode.to_string().parse(), Ok(enode)),
                None => assert!(text.parse::<Enode>().is_err()),
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(text.parse::<Enode>().is_err());
        }
    }
    if let Ok(id) = text.parse::<NodeId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
});
