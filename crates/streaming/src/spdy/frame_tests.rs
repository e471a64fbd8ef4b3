//! Frames as clients write them, cut anywhere.

use proptest::prelude::*;

use super::super::headers::tests::Packer;
use super::*;

/// A client's frame of a kind that carries headers.
fn open(packer: &mut Packer, stream: u32, fin: bool, pairs: &[(&str, &str)]) -> Vec<u8> {
    let block = packer.pairs(pairs);
    let mut frame = vec![0x80, 3, 0, 1, u8::from(fin)];
    frame.extend(&(block.len() as u32 + 10).to_be_bytes()[1..]);
    frame.extend(stream.to_be_bytes());
    frame.extend([0; 6]);
    frame.extend(block);
    frame
}

fn data(stream: u32, fin: bool, bytes: &[u8]) -> Vec<u8> {
    let mut frame = stream.to_be_bytes().to_vec();
    frame.push(u8::from(fin));
    frame.extend(&(bytes.len() as u32).to_be_bytes()[1..]);
    frame.extend(bytes);
    frame
}

fn frame(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut all = BytesMut::new();
    control(&mut all, kind, body.len());
    all.extend_from_slice(body);
    all.to_vec()
}

/// Everything that a decoder says about these bytes, given to it in pieces.
fn events(pieces: &[&[u8]]) -> Result<Vec<Event>, ProtocolError> {
    let (mut decoder, mut buffer, mut all) = (Decoder::new(), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(event) = decoder.next(&mut buffer)? {
            all.push(event);
        }
    }
    Ok(all)
}

proptest! {
    #[test]
    fn frames_are_the_same_however_they_are_cut(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..5),
        cuts in prop::collection::vec(1usize..40, 1..10),
    ) {
        let mut packer = Packer::new();
        let mut bytes = open(&mut packer, 1, false, &[("streamtype", "stdin")]);
        for payload in &payloads {
            bytes.extend(data(1, false, payload));
        }
        bytes.extend(data(1, true, &[]));
        bytes.extend(open(&mut packer, 3, true, &[("streamtype", "error")]));
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        let (mut got, mut fins, mut opened) = (Vec::new(), 0, Vec::new());
        for event in events(&pieces).expect("valid") {
            match event {
                Event::Data { stream: 1, bytes, fin } => {
                    got.extend_from_slice(&bytes);
                    fins += usize::from(fin);
                }
                Event::Open { stream, headers, fin } => {
                    opened.push((stream, headers.get("streamtype").map(str::to_owned), fin));
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert_eq!(got, payloads.concat());
        prop_assert_eq!(fins, 1);
        prop_assert_eq!(opened, vec![(1, Some("stdin".into()), false), (3, Some("error".into()), true)]);
    }

    #[test]
    fn garbage_never_panics_and_holds_little(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let pieces: Vec<_> = pieces.iter().map(Vec::as_slice).collect();
        let _ = events(&pieces);
    }

    #[test]
    fn what_is_sent_is_read_again(stream in 1u32..1 << 31, payload in prop::collection::vec(any::<u8>(), 1..100)) {
        let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
        let payload = Bytes::from(payload);
        for command in [
            Command::Reply(stream),
            Command::Data(stream, payload.clone()),
            Command::Fin(stream),
            Command::Reset(stream, reset::CANCEL),
            Command::Ping(9),
            Command::Reply(stream),
            Command::Close(stream, goaway::OK),
        ] {
            encoder.put(&command, &mut bytes);
            if let Command::Data(_, data) = command {
                bytes.extend_from_slice(&data);
            }
        }
        prop_assert_eq!(events(&[&bytes]).expect("valid"), vec![
            Event::Headers { stream, fin: false },
            Event::Data { stream, bytes: payload, fin: false },
            Event::Data { stream, bytes: Bytes::new(), fin: true },
            Event::Reset(stream),
            Event::Ping(9),
            Event::Headers { stream, fin: false },
            Event::GoAway,
        ]);
    }
}

#[test]
fn the_largest_data_frame_passes_in_pieces() {
    let mut bytes = data(5, true, &[]);
    bytes[5..8].copy_from_slice(&[0xff; 3]);
    let (mut decoder, mut buffer) = (Decoder::new(), BytesMut::from(&bytes[..]));
    let mut left = MAX_DATA;
    assert_eq!(decoder.next(&mut buffer), Ok(None));
    while left > 0 {
        buffer.extend_from_slice(&vec![7; left.min(100_000)]);
        let event = decoder.next(&mut buffer).expect("valid").expect("bytes");
        let Event::Data { stream: 5, bytes, fin } = event else { panic!("{event:?}") };
        left -= bytes.len();
        assert_eq!(fin, left == 0);
        assert!(buffer.is_empty(), "nothing is held back");
    }
}

#[test]
fn control_frames_that_are_wrong_are_errors() {
    for (bytes, want) in [
        (frame(PING, &[0; 3]), ProtocolError::ControlFrameTooShort { kind: PING, length: 3 }),
        (frame(SETTINGS, &[0xff; 12]), ProtocolError::ControlFrameTooShort { kind: SETTINGS, length: 12 }),
        (frame(RST_STREAM, &[0, 0, 0, 0, 0, 0, 0, 1]), ProtocolError::StreamZero),
        (frame(SYN_STREAM, &[0; 9]), ProtocolError::ControlFrameTooShort { kind: SYN_STREAM, length: 9 }),
        (data(0, false, b"x"), ProtocolError::StreamZero),
        (vec![0x80, 2, 0, 1, 0, 0, 0, 0], ProtocolError::Version(2)),
        (
            vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
            ProtocolError::ControlFrameTooLarge { kind: SYN_STREAM, length: MAX_DATA },
        ),
    ] {
        assert_eq!(events(&[&bytes]), Err(want), "{bytes:?}");
    }
}

#[test]
fn frames_without_consequence_are_passed_over() {
    let settings = [0, 0, 0, 1, 0, 0, 0, 7, 0, 1, 0, 0];
    let all = [frame(SETTINGS, &settings), frame(WINDOW_UPDATE, &[0, 0, 0, 0, 0, 1, 0, 0]), frame(77, b"new")].concat();
    assert_eq!(events(&[&all]), Ok(vec![Event::Ignored, Event::Ignored, Event::Ignored]));
}
