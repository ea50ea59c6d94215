//! Protobuf messages field by field, whether or not anybody would write them so.

/// The bytes of a message.
#[derive(Debug, Clone, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn new() -> Message {
        Message::default()
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    /// A number of variable length: uint32, uint64, bool, enum.
    pub fn number(mut self, field: u32, number: u64) -> Message {
        self.key(field, 0);
        self.varint(number);
        self
    }

    /// A signed number in zigzag form: sint32, sint64.
    pub fn signed(self, field: u32, number: i64) -> Message {
        self.number(field, (number << 1 ^ number >> 63) as u64)
    }

    pub fn fixed64(mut self, field: u32, number: u64) -> Message {
        self.key(field, 1);
        self.0.extend(number.to_le_bytes());
        self
    }

    pub fn double(self, field: u32, number: f64) -> Message {
        self.fixed64(field, number.to_bits())
    }

    pub fn float(mut self, field: u32, number: f32) -> Message {
        self.key(field, 5);
        self.0.extend(number.to_le_bytes());
        self
    }

    /// Bytes, text or a message.
    pub fn bytes(mut self, field: u32, bytes: impl AsRef<[u8]>) -> Message {
        self.key(field, 2);
        self.varint(bytes.as_ref().len() as u64);
        self.0.extend(bytes.as_ref());
        self
    }

    pub fn message(self, field: u32, message: Message) -> Message {
        self.bytes(field, message.0)
    }

    /// The same field for each of these.
    pub fn each<T>(self, items: impl IntoIterator<Item = T>, add: impl Fn(Message, T) -> Message) -> Message {
        items.into_iter().fold(self, add)
    }
}
