//! The bytes that wait to go out.

/// An empty buffer up to this size is kept: a Pong or a small request needs no new one. Greater ones are given back, so that
/// an idle session costs little.
const KEPT_BYTES: usize = 512;

/// Bytes appended at the end and taken from the front: frames, which are sealed before they are taken, and the packets of the
/// handshake before them.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// How many of them are gone already.
    sent: usize,
    /// From here on there are frames that are only laid out.
    sealed: usize,
}

impl Output {
    /// What can go out, the oldest first.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..self.sealed]
    }

    /// How much waits, sealed or not.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Frames that are to be sealed, all of them, before they can go out.
    pub(super) fn unsealed(&self) -> &[u8] {
        &self.bytes[self.sealed..]
    }

    /// The same, for who seals them now.
    pub(super) fn take_unsealed(&mut self) -> &mut [u8] {
        let start = std::mem::replace(&mut self.sealed, self.bytes.len());
        &mut self.bytes[start..]
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
            self.sealed = 0;
            self.bytes.clear();
        }
    }

    /// If nothing waits, goes on in one of these empty buffers.
    pub(super) fn borrow(&mut self, from: &mut Vec<Vec<u8>>) {
        if self.bytes.is_empty()
            && let Some(buffer) = from.pop()
        {
            self.bytes = buffer;
        }
    }

    /// If nothing waits, gives its buffer to these, unless it is a small one.
    pub(super) fn give_back(&mut self, to: &mut Vec<Vec<u8>>) {
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BYTES {
            to.push(std::mem::take(&mut self.bytes));
        }
    }

    /// If nothing waits, keeps no more than a small buffer.
    pub(super) fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEPT_BYTES);
        }
    }

    /// Throws away all that waits.
    pub(super) fn clear(&mut self) {
        self.sealed = self.bytes.len();
        self.consume(self.bytes.len() - self.sent);
    }

    /// Bytes of memory that the buffer holds.
    #[cfg(test)]
    pub(super) fn end_capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The buffer to append frames to.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        // moved to the front when what is gone is the greater part: each byte is moved once at most on average
        if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sealed -= self.sent;
            self.sent = 0;
        }
        &mut self.bytes
    }

    /// Appends a packet of the handshake, which goes out as it is.
    pub(super) fn packet<R>(&mut self, append: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        assert!(self.unsealed().is_empty(), "the handshake comes first");
        let appended = append(&mut self.bytes);
        self.sealed = self.bytes.len();
        appended
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
            output.take_unsealed();
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
        let sealed_bytes = output.pending().len();
        output.end().resize(1 << 20, 0);
        assert_eq!(output.pending().len(), sealed_bytes, "the rest is not");
        output.take_unsealed();
        output.consume(output.pending().len());
        output.shrink();
        assert!(output.bytes.capacity() <= KEPT_BYTES);
    }
}
