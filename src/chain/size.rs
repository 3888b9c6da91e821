//! What a header may weigh, judged without its parent: nobody makes us keep more.

use alloy_consensus::Header;
use bytes::Bytes;

use super::{
    clique::{SEAL_BYTES, VANITY_BYTES},
    error::{Fault, HeaderError},
    header::SealedHeader,
    rules::{EXTRA_LIMIT_BYTES, Rules},
};

/// Longest header that is read, in bytes of its RLP: a checkpoint with [`SIGNERS_LIMIT`] signers takes 21 KiB, any other header
/// less than 1 KiB.
const HEADER_LIMIT_BYTES: usize = 32 << 10;
/// Most signers that a checkpoint of a peer may list: many times those of any known clique chain.
const SIGNERS_LIMIT: usize = 1024;

impl Rules {
    /// Reads a header that a peer sent, if it is of a size that a header of this chain may have at its number. Nothing else
    /// in it is judged.
    ///
    /// # Errors
    /// [`HeaderError::Invalid`] names the field.
    pub fn read_header(&self, raw: Bytes) -> Result<SealedHeader, HeaderError> {
        if raw.len() > HEADER_LIMIT_BYTES {
            let most = format_args!("at most {HEADER_LIMIT_BYTES} bytes");
            let found = format_args!("{} bytes", raw.len());
            return Err(Fault::mismatch("header", most, found).into());
        }
        let header = SealedHeader::decode(raw)?;
        self.check_size(&header)?;
        Ok(header)
    }

    /// Judges the length of `extraData`, the only field without a size of its own, as far as it follows from the number.
    fn check_size(&self, sealed: &SealedHeader) -> Result<(), HeaderError> {
        let header = &sealed.header;
        if sealed.hash == self.genesis.hash {
            return Ok(());
        }
        let found = header.extra_data.len();
        let Some(clique) = self.spec.clique else {
            return check_extra_length(header).map_err(|fault| of(fault, sealed));
        };
        let sealed_bytes = VANITY_BYTES + SEAL_BYTES;
        let most_bytes = sealed_bytes + SIGNERS_LIMIT * 20;
        let unsealed = self.spec.terminal_total_difficulty.is_some() && found <= EXTRA_LIMIT_BYTES;
        let (fits, expected) = match header.number.is_multiple_of(clique.epoch.max(1)) {
            true => (found <= most_bytes, format!("at most {most_bytes} bytes")),
            false => (found == sealed_bytes, format!("{sealed_bytes} bytes")),
        };
        if fits || unsealed {
            return Ok(());
        }
        let fault = Fault::mismatch("extraData", expected, format_args!("{found} bytes"));
        Err(of(fault, sealed))
    }
}

fn of(fault: Fault, sealed: &SealedHeader) -> HeaderError {
    fault.of(sealed.header.number, sealed.hash).into()
}

/// The length of `extraData` where no signers stand in it.
pub(super) fn check_extra_length(header: &Header) -> Result<(), Fault> {
    let found = header.extra_data.len();
    match found <= EXTRA_LIMIT_BYTES {
        true => Ok(()),
        false => Err(Fault::mismatch(
            "extraData",
            format_args!("at most {EXTRA_LIMIT_BYTES} bytes"),
            format_args!("{found} bytes"),
        )),
    }
}
