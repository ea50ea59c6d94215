//! Bytes that are no message of ours, and connections that are none: a status with a reason, or the end of that
//! connection; never of a node.

use fastrand::Rng;
use tonic::Code;

use super::absurd::{announcement, query, scan};
use super::protobuf::Message;
use super::raw::{call, channel, check_status, frame, opened_call, throw};
use super::{NODES, Sound, mutated, seeded};

const METHODS: [&str; 10] = [
    "Overlay/Query",
    "Overlay/GetChunk",
    "Overlay/StreamChunks",
    "Overlay/Cancel",
    "Overlay/GetStatus",
    "Overlay/GetMetrics",
    "Overlay/Shutdown",
    "Peer/Hello",
    "Peer/Announce",
    "Peer/Scan",
];

fn random_bytes(random: &mut Rng, max: usize) -> Vec<u8> {
    (0..random.usize(0..max)).map(|_| random.u8(..)).collect()
}

/// The random part of a call that must not be understood by chance: `Shutdown` would be obeyed.
fn no_message(mut bytes: Vec<u8>) -> Vec<u8> {
    // A field with wire type 7, which there is not.
    bytes.insert(0, 0x0f);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_message_get_a_status() {
    let mut random = seeded();
    let sound = tokio::task::spawn_blocking(Sound::start).await.expect("started");
    for id in NODES {
        let channel = channel(&sound.place.address(id));
        for method in METHODS {
            for bytes in [vec![], random_bytes(&mut random, 40), random_bytes(&mut random, 4000)] {
                let code = check_status(&channel, method, no_message(bytes), id).await;
                assert_ne!(code, Code::Ok, "{id} understood rubbish as {method}");
            }
            if method != "Overlay/Shutdown" {
                for bytes in [vec![], random_bytes(&mut random, 40), random_bytes(&mut random, 4000)] {
                    check_status(&channel, method, bytes, id).await;
                }
            }
            // 17 MiB, where 16 are taken.
            let large = Message::new().bytes(1, vec![b'x'; 17 << 20]).0;
            if id < "C" {
                let code = check_status(&channel, method, large, id).await;
                assert_eq!(code, Code::OutOfRange, "{method}");
            }
        }
        for method in ["Overlay/Nothing", "Nothing/At", "Peer/"] {
            let status = call(&channel, method, vec![1]).await.expect_err("there is no such method");
            assert_eq!(status.code(), Code::Unimplemented, "{method}");
        }
        // Messages as they should be but for a few bytes.
        let sound_ones = [("Overlay/Query", query()), ("Peer/Scan", scan(id)), ("Peer/Announce", announcement(id))];
        for (method, message) in &sound_ones {
            for _ in 0..12 {
                check_status(&channel, method, mutated(&mut random, &message.0), id).await;
            }
        }
    }
    tokio::task::spawn_blocking(move || {
        sound.check();
        sound.end();
    })
    .await
    .expect("sound");
}

#[test]
fn connections_that_are_none_of_ours_end_alone() {
    let mut random = seeded();
    let sound = Sound::start();
    const END_STREAM: u8 = 1;
    for id in NODES {
        let address = sound.place.address(id);
        throw(&address, b"");
        throw(&address, b"GET / HTTP/1.1\r\nHost: overlay\r\n\r\n");
        throw(&address, &random_bytes(&mut random, 2000));
        for method in METHODS {
            let opened = opened_call(method);
            let cut_at = random.usize(..opened.len());
            throw(&address, &opened[..cut_at]);
            throw(&address, &mutated(&mut random, &opened));
            // A message of 100 bytes of which 3 come; one that says it has 4 GiB; one that says it is compressed.
            for head in [[0, 0, 0, 0, 100, 1, 2, 3], [0, 255, 255, 255, 255, 1, 2, 3], [1, 0, 0, 0, 3, 1, 2, 3]] {
                for flags in [0, END_STREAM] {
                    throw(&address, &[opened.clone(), frame(0, flags, 1, &head)].concat());
                }
            }
            // Frames that lie about their length, of no known kind, on streams that nobody opened.
            let lying =
                [opened.clone(), vec![255, 255, 255, 0, 0, 0, 0, 0, 1], random_bytes(&mut random, 300)].concat();
            throw(&address, &lying);
            let (kind, stream) = (random.u8(..), random.u32(..));
            let strange = frame(kind, random.u8(..), stream, &random_bytes(&mut random, 100));
            throw(&address, &[opened, strange].concat());
        }
    }
    sound.check();
    sound.end();
}
