//! `overlay.v1.ChunkBatch` as it is sent: like the generated one, but with `data` in pieces, which are written where they go
//! and nowhere before. Numbers and types of the fields are those of `proto/overlay.proto`.

use ::bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, encode_key, encode_varint, key_len, skip_field};
use prost::encoding::{bool, bytes, encoded_len_varint, fixed64, message, string};
use prost::{DecodeError, Message};

use super::wire;
use crate::delivery::encoding::pieces::Pieces;

const CHUNKS: u32 = 1;
const DATA: u32 = 2;
const CHECKSUM: u32 = 3;
const PARTIAL: u32 = 4;
const FOOTER: u32 = 5;
const SCHEMA: u32 = 6;
const UID: u32 = 7;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChunkBatch {
    pub chunks: Vec<wire::ChunkMeta>,
    pub data: Pieces,
    pub checksum: u64,
    pub partial: bool,
    pub footer: Option<wire::Footer>,
    pub schema: Vec<u8>,
    pub uid: String,
}

impl Message for ChunkBatch {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        message::encode_repeated(CHUNKS, &self.chunks, buf);
        if !self.data.is_empty() {
            encode_key(DATA, WireType::LengthDelimited, buf);
            encode_varint(self.data.len() as u64, buf);
            for piece in self.data.iter() {
                buf.put_slice(piece);
            }
        }
        // What has its default value is left out.
        if self.checksum != 0 {
            fixed64::encode(CHECKSUM, &self.checksum, buf);
        }
        if self.partial {
            bool::encode(PARTIAL, &self.partial, buf);
        }
        if let Some(footer) = &self.footer {
            message::encode(FOOTER, footer, buf);
        }
        if !self.schema.is_empty() {
            bytes::encode(SCHEMA, &self.schema, buf);
        }
        if !self.uid.is_empty() {
            string::encode(UID, &self.uid, buf);
        }
    }

    fn encoded_len(&self) -> usize {
        let data = self.data.len();
        message::encoded_len_repeated(CHUNKS, &self.chunks)
            + if data > 0 { key_len(DATA) + encoded_len_varint(data as u64) + data } else { 0 }
            + if self.checksum != 0 { fixed64::encoded_len(CHECKSUM, &self.checksum) } else { 0 }
            + if self.partial { bool::encoded_len(PARTIAL, &self.partial) } else { 0 }
            + self.footer.as_ref().map_or(0, |footer| message::encoded_len(FOOTER, footer))
            + if self.schema.is_empty() { 0 } else { bytes::encoded_len(SCHEMA, &self.schema) }
            + if self.uid.is_empty() { 0 } else { string::encoded_len(UID, &self.uid) }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            CHUNKS => message::merge_repeated(wire_type, &mut self.chunks, buf, ctx),
            DATA => {
                let mut whole = Bytes::new();
                bytes::merge(wire_type, &mut whole, buf, ctx)?;
                self.data = whole.into();
                Ok(())
            }
            CHECKSUM => fixed64::merge(wire_type, &mut self.checksum, buf, ctx),
            PARTIAL => bool::merge(wire_type, &mut self.partial, buf, ctx),
            FOOTER => message::merge(wire_type, self.footer.get_or_insert_default(), buf, ctx),
            SCHEMA => bytes::merge(wire_type, &mut self.schema, buf, ctx),
            UID => string::merge(wire_type, &mut self.uid, buf, ctx),
            _ => skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn clear(&mut self) {
        *self = ChunkBatch::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by hand from the rules of the protocol buffers' encoding: key, length or value.
    fn by_hand() -> Vec<u8> {
        let mut bytes = vec![0x0a, 6, 0x08, 3, 0x10, 7, 0x18, 1];
        bytes.extend([0x12, 8]);
        bytes.extend(b"onetwo33");
        bytes.extend([0x19, 8, 7, 6, 5, 4, 3, 2, 1]);
        bytes.extend([0x20, 1]);
        bytes.extend([0x2a, 4, 0x0a, 2]);
        bytes.extend(b"id");
        bytes.extend([0x32, 1, 9]);
        bytes.extend([0x3a, 3]);
        bytes.extend(b"uid");
        bytes
    }

    fn batch(data: Pieces) -> ChunkBatch {
        ChunkBatch {
            chunks: vec![wire::ChunkMeta { chunk_index: 3, rows: 7, is_last: true, bytes: 0 }],
            data,
            checksum: 0x0102_0304_0506_0708,
            partial: true,
            footer: Some(wire::Footer { uid: "id".to_owned(), ..wire::Footer::default() }),
            schema: vec![9],
            uid: "uid".to_owned(),
        }
    }

    #[test]
    fn it_is_written_as_the_wire_says() {
        let whole = batch(Bytes::from_static(b"onetwo33").into());
        assert_eq!(whole.encode_to_vec(), by_hand());
        assert_eq!(whole.encoded_len(), by_hand().len());
        assert_eq!(ChunkBatch::decode(&by_hand()[..]).expect("it is read"), whole);
        let none = ChunkBatch::default();
        assert_eq!((none.encode_to_vec().len(), none.encoded_len()), (0, 0));
        assert_eq!(ChunkBatch::decode(&[][..]).expect("it is read"), none);
    }

    #[test]
    fn its_fields_are_those_of_the_proto_file() {
        let proto = include_str!("../../proto/overlay.proto");
        let (_, after) = proto.split_once("message ChunkBatch {").expect("it is there");
        let (body, _) = after.split_once('}').expect("it ends");
        let fields = body.lines().map(str::trim).filter(|line| line.ends_with(';'));
        let expected = [
            ("repeated ChunkMeta chunks", CHUNKS),
            ("bytes data", DATA),
            ("fixed64 checksum", CHECKSUM),
            ("bool partial", PARTIAL),
            ("Footer footer", FOOTER),
            ("bytes schema", SCHEMA),
            ("string uid", UID),
        ];
        let expected = expected.map(|(field, number)| format!("{field} = {number};"));
        assert_eq!(fields.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn of_data_in_pieces_the_other_end_sees_nothing() {
        let large: Vec<Bytes> = (0..3_u8).map(|n| vec![n; 5_000 + usize::from(n)].into()).collect();
        let mut writer = crate::delivery::encoding::pieces::Writer::default();
        large.iter().for_each(|piece| {
            writer.put(b"head");
            writer.share(piece);
        });
        let pieces = writer.finish();
        assert!(pieces.iter().count() > 1);
        let written = batch(pieces.clone()).encode_to_vec();
        assert_eq!(written, batch(pieces.joined().into()).encode_to_vec());
        let read = ChunkBatch::decode(&written[..]).expect("it is read");
        assert_eq!((read.data.joined(), read.data.iter().count()), (pieces.joined(), 1));
    }

    #[test]
    fn what_is_unknown_is_left_out_and_what_is_cut_off_is_an_error() {
        let mut longer = by_hand();
        longer.extend([0x7a, 2, 1, 2]);
        assert_eq!(ChunkBatch::decode(&longer[..]).expect("it is read").encode_to_vec(), by_hand());
        // Field after field the message may end; anywhere else it is broken.
        let whole = by_hand();
        let ends = (0..=whole.len()).filter(|end| ChunkBatch::decode(&whole[..*end]).is_ok());
        assert_eq!(ends.collect::<Vec<_>>(), [0, 8, 18, 27, 29, 35, 38, 43]);
    }
}
