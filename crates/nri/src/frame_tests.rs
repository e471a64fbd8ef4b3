use proptest::prelude::*;

use super::*;

fn message(lane: Lane, stream: u32, payload: Vec<u8>) -> Message {
    Message { lane, stream, kind: ttrpc::REQUEST, flags: ttrpc::REMOTE_CLOSED, payload }
}

fn all(bytes: &[u8]) -> Result<Vec<Message>, Malformed> {
    let (mut demux, mut out) = (Demux::default(), Vec::new());
    demux.feed(bytes, &mut out).map(|()| out)
}

#[test]
fn the_bytes_of_a_message() {
    let bytes = encode(&message(Lane::Runtime, 7, b"hi".to_vec())).unwrap();
    assert_eq!(bytes, b"\0\0\0\x02\0\0\0\x0c\0\0\0\x02\0\0\0\x07\x01\x01hi");
}

#[test]
fn a_large_payload_has_a_frame_of_its_own() {
    let bytes = encode(&message(Lane::Plugin, 1, vec![3; 4087])).unwrap();
    assert_eq!(bytes[..8], [0, 0, 0, 1, 0, 0, 0, 10]);
    assert_eq!(bytes[18..26], [0, 0, 0, 1, 0, 0, 0x0f, 0xf7]);
    assert_eq!(encode(&message(Lane::Plugin, 1, vec![3; 4086])).unwrap().len(), 8 + 4096);
    assert_eq!(encode(&message(Lane::Plugin, 1, vec![0; (4 << 20) + 1])), Err((4 << 20) + 1));
}

#[test]
fn unknown_connections_and_empty_frames_are_skipped() {
    let mut bytes = b"\0\0\0\x09\0\0\0\x03abc\0\0\0\x02\0\0\0\0".to_vec();
    bytes.extend(encode(&message(Lane::Plugin, 5, Vec::new())).unwrap());
    assert_eq!(all(&bytes).unwrap(), [message(Lane::Plugin, 5, Vec::new())]);
}

#[test]
fn too_large_claims_are_refused_and_reserve_nothing() {
    assert_eq!(all(b"\0\0\0\x01\xff\xff\xff\xff"), Err(Malformed::Frame(u32::MAX)));
    assert_eq!(all(b"\0\0\0\x01\0\0\0\x0a\0\x40\0\x01\0\0\0\x01\x02\0"), Err(Malformed::Message(0x40_0001)));
    let mut demux = Demux::default();
    demux.feed(b"\0\0\0\x01\0\x40\0\x0a\0\x40\0\0\0\0\0\x01\x02\0x", &mut Vec::new()).unwrap();
    assert!(demux.plugin.payload.capacity() <= RESERVE);
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let lane = prop_oneof![Just(Lane::Plugin), Just(Lane::Runtime)];
    let size = prop_oneof![0..64usize, 4080..4100usize, 0..20_000usize];
    let one = (lane, any::<u32>(), any::<u8>(), any::<u8>(), size)
        .prop_map(|(lane, stream, kind, flags, size)| Message { lane, stream, kind, flags, payload: vec![kind; size] });
    prop::collection::vec(one, 0..8)
}

proptest! {
    #[test]
    fn any_portions_give_the_same_messages(messages in messages(), cuts in prop::collection::vec(1..5000usize, 1..20)) {
        let bytes: Vec<u8> = messages.iter().flat_map(|m| encode(m).unwrap()).collect();
        let (mut demux, mut out, mut rest) = (Demux::default(), Vec::new(), bytes.as_slice());
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            demux.feed(now, &mut out).unwrap();
            if later.is_empty() { break }
            rest = later;
        }
        prop_assert_eq!(out, messages);
    }

    #[test]
    fn noise_neither_panics_nor_grows(noise in prop::collection::vec(any::<u8>(), 0..2000)) {
        let (mut demux, mut out) = (Demux::default(), Vec::new());
        let _ = demux.feed(&noise, &mut out);
        prop_assert!(out.iter().map(|m| m.payload.len()).sum::<usize>() <= noise.len());
        prop_assert!(demux.plugin.payload.capacity() <= RESERVE);
    }
}
