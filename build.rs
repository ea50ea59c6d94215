//! Compiles `proto/*.proto` into `OUT_DIR` with protox, so that no protoc has to be installed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["overlay.proto", "peer.proto"], ["proto"])?;
    // Rows are passed on as they came, not copied out of the message.
    let rows = [".overlay.v1.ZoneAnswer.block", ".overlay.v1.ChunkReply.data"];
    rows.iter()
        .fold(tonic_prost_build::configure(), |builder, path| builder.bytes(path))
        .extern_path(".overlay.v1.ChunkBatch", "crate::transport::chunk_batch::ChunkBatch")
        .codec_path("crate::transport::codec::SizedCodec")
        .compile_fds(files)?;
    Ok(())
}
