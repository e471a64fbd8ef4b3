use super::*;

/// A shim that answers what it was told to, whatever is asked.
fn answering(bytes: Vec<u8>) -> Client {
    let (ours, mut theirs) = UnixStream::pair().expect("pair");
    theirs.write_all(&bytes).expect("write");
    // Its end is seen after what it wrote; what it is sent is not read.
    theirs.shutdown(std::net::Shutdown::Write).expect("shutdown");
    std::mem::forget(theirs);
    Client::new(ours, "s")
}

fn frame(stream: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&[kind, 0]);
    frame.extend_from_slice(payload);
    frame
}

fn call(bytes: Vec<u8>) -> Result<Status> {
    answering(bytes).call("M", &Status::default(), Some(Duration::from_secs(5)))
}

#[test]
fn answers_and_errors() {
    let inner = Status { code: 7, message: "payload".into() };
    let fine = Response { status: None, payload: inner.encode_to_vec() }.encode_to_vec();
    // One that came late for another stream is passed over.
    let bytes = [frame(9, RESPONSE, b"x"), frame(1, RESPONSE, &fine)].concat();
    assert_eq!(call(bytes).expect("answer"), inner);
    let missing = Response { status: Some(Status { code: 5, message: "no container".into() }), payload: Vec::new() };
    let error = call(frame(1, RESPONSE, &missing.encode_to_vec())).expect_err("status");
    assert!(error.is_not_found() && !error.is_gone(), "{error}");
    assert_eq!(error.to_string(), "M: no container");
}

#[test]
fn what_breaks_the_protocol_is_no_answer() {
    assert!(matches!(call(frame(1, REQUEST, b"")), Err(Error::Protocol(_))));
    assert!(matches!(call(frame(1, RESPONSE, b"\xff\xff\xff")), Err(Error::Protocol(_))));
    let huge = [&u32::MAX.to_be_bytes()[..], &[0, 0, 0, 1, RESPONSE, 0]].concat();
    assert!(matches!(call(huge), Err(Error::Protocol(_))));
    for cut in [Vec::new(), vec![0; 5], frame(1, RESPONSE, b"abc")[..11].to_vec()] {
        assert!(call(cut).expect_err("end").is_gone());
    }
}

#[test]
fn a_shim_that_does_not_answer_is_not_waited_for() {
    let (ours, _theirs) = UnixStream::pair().expect("pair");
    let begin = Instant::now();
    let answer: Result<Status> = Client::new(ours, "s").call("M", &Status::default(), Some(Duration::from_millis(50)));
    assert!(!answer.expect_err("silence").is_gone(), "it may live");
    assert!(begin.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_shim_that_does_not_accept_is_not_waited_for() {
    let dir = std::env::temp_dir().join(format!("cricket-shim-{}", std::process::id()));
    let address = Address::parse(dir.to_str().expect("text")).expect("address");
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("socket");
    rustix::net::bind(&listener, &SocketAddrUnix::new(address.path()).expect("address")).expect("bind");
    rustix::net::listen(&listener, 0).expect("listen");
    let limit = Duration::from_millis(100);
    let (begin, mut queued) = (Instant::now(), Vec::new());
    let error = loop {
        match Client::connect(&address, "s", limit) {
            Ok(client) => queued.push(client),
            Err(error) => break error,
        }
        assert!(queued.len() < 10, "there is room for all");
    };
    std::fs::remove_file(address.path()).expect("remove");
    assert!(!error.is_gone() && begin.elapsed() < Duration::from_secs(4), "{error}");
    assert!(Client::connect(&address, "s", limit).expect_err("no socket").is_gone());
}
