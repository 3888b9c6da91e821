//! The bytes that wait to go out.

/// An empty buffer up to this size is kept: a Pong or a small request needs no new one. Greater ones are given back, so that
/// an idle session costs little.
const KEPT_BYTES: usize = 512;

/// Bytes appended at the end and taken from the front.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// How many of them are gone already.
    sent: usize,
}

impl Output {
    /// What waits, the oldest first.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Takes `count` bytes off the front.
    pub(super) fn consume(&mut self, count: usize) {
        assert!(
            count <= self.pending().len(),
            "more was sent than there was"
        );
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.sent = 0;
            self.bytes.clear();
        }
    }

    /// If nothing waits, goes on in another empty buffer, and leaves its own for it.
    pub(super) fn exchange(&mut self, other: &mut Vec<u8>) {
        if self.bytes.is_empty() && other.is_empty() {
            std::mem::swap(&mut self.bytes, other);
        }
    }

    /// If nothing waits, keeps no more than a small buffer.
    pub(super) fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEPT_BYTES);
        }
    }

    /// Bytes of memory that the buffer holds.
    #[cfg(test)]
    pub(super) fn end_capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The buffer to append to.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        // moved to the front when what is gone is the greater part: each byte is moved once at most on average
        if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_out_in_order_and_an_empty_buffer_is_given_back() {
        let mut output = Output::default();
        let (mut put, mut taken) = (0u32, 0u32);
        for round in 1..2000u32 {
            for _ in 0..round % 37 {
                output.end().extend_from_slice(&put.to_le_bytes());
                put += 1;
            }
            let count = (output.pending().len() / 4).min(round as usize % 41);
            for at in 0..count {
                assert_eq!(
                    output.pending()[at * 4..][..4],
                    (taken + at as u32).to_le_bytes()
                );
            }
            output.consume(count * 4);
            taken += count as u32;
            assert_eq!(output.pending().len(), (put - taken) as usize * 4);
        }
        output.end().resize(1 << 20, 0);
        output.consume(output.pending().len());
        output.shrink();
        assert!(output.bytes.capacity() <= KEPT_BYTES);
    }
}
