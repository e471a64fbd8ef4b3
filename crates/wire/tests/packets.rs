//! Packets over a real socket pair, and bytes that are no messages.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use cricket_wire::packet::{MAX_BYTES, MAX_FDS, PacketError, receive, receive_sized, send, send_bytes};
use cricket_wire::{
    Adopt, Attach, CgroupRef, Exec, ExitFacts, Exited, Log, Phase, Request, RequestKind, Response, ResponseKind, Run,
    Stream,
};
use proptest::prelude::*;
use prost::Message;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("socketpair")
}

#[test]
fn descriptors_arrive_in_order_and_close_on_exec() {
    let (ours, theirs) = pair();
    let pipes: Vec<_> = (0..MAX_FDS).map(|_| std::io::pipe().expect("pipe")).collect();
    let fds: Vec<_> = pipes.iter().map(|(_, writer)| writer.as_fd()).collect();
    let request = Request { id: 7, kind: None };
    send(&ours, &request, &fds).expect("send");
    let (received, arrived) = receive::<Request>(&theirs, &mut [0; 1024]).expect("receive");
    assert_eq!((received, arrived.len()), (request, MAX_FDS));
    for (n, fd) in arrived.iter().enumerate() {
        let flags = rustix::io::fcntl_getfd(fd).expect("flags");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        rustix::io::write(fd, &[n as u8]).expect("write");
    }
    for (n, (mut reader, _)) in pipes.into_iter().enumerate() {
        let mut byte = [0];
        reader.read_exact(&mut byte).expect("read");
        assert_eq!(byte, [n as u8]);
    }
}

#[test]
fn bounds_hold_on_both_sides() {
    let (ours, theirs) = pair();
    let null = File::open("/dev/null").expect("open");
    let many: Vec<_> = (0..=MAX_FDS).map(|_| null.as_fd()).collect();
    assert!(matches!(send_bytes(&ours, b"x", &many), Err(PacketError::TooLarge)));
    assert!(matches!(send_bytes(&ours, &vec![0; MAX_BYTES + 1], &[]), Err(PacketError::TooLarge)));
    // A longer packet than the reader has room for is refused whole, its descriptor closed: nobody holds the pipe's other end.
    let sent = || {
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        send_bytes(&ours, &[1; 100], &[writer.as_fd()]).expect("send");
        File::from(reader)
    };
    let ends = |mut reader: File| assert_eq!(reader.read(&mut [0]).expect("read"), 0);
    let reader = sent();
    assert!(matches!(receive::<Request>(&theirs, &mut [0; 50]), Err(PacketError::TooLarge)));
    ends(reader);
    assert!(matches!(receive::<Request>(&theirs, &mut [0; 50]), Err(PacketError::WouldBlock)));
    let reader = sent();
    assert!(matches!(receive_sized::<Request>(&theirs, 99), Err(PacketError::TooLarge)));
    ends(reader);
    assert!(matches!(receive_sized::<Request>(&theirs, 99), Err(PacketError::WouldBlock)));
    let request = Request { id: 9, kind: None };
    send(&ours, &request, &[null.as_fd()]).expect("send");
    let (received, fds) = receive_sized::<Request>(&theirs, request.encoded_len()).expect("it just fits");
    assert_eq!((received, fds.len()), (request, 1));
    drop((ours, fds));
    assert!(matches!(receive_sized::<Request>(&theirs, 99), Err(PacketError::Closed)));
    assert!(matches!(receive::<Request>(&theirs, &mut [0; 50]), Err(PacketError::Closed)));
    assert!(matches!(send_bytes(&theirs, b"x", &[]), Err(PacketError::Closed)));
}

#[test]
fn what_is_unknown_is_skipped() {
    // Field 10 (Hello) with version 1 and a field 99 inside, then a field 1000 beside.
    let bytes = [0x08, 5, 0x52, 5, 0x08, 1, 0x98, 0x06, 9, 0xc0, 0x3e, 1];
    let request = Request::decode(&bytes[..]).expect("decode");
    assert!(matches!(request, Request { id: 5, kind: Some(RequestKind::Hello(hello)) } if hello.version == 1));
    let state = cricket_wire::ContainerState { phase: 99, ..Default::default() };
    assert_eq!(state.phase(), Phase::Making);
}

fn run() -> impl Strategy<Value = Run> {
    ("[a-f0-9]{0,64}", proptest::collection::vec(".{0,20}", 0..4), any::<[bool; 4]>(), ".{0,30}").prop_map(
        |(container_id, args, [logged, tty, stdin, grouped], path)| Run {
            container_id,
            args,
            log: logged.then(|| Log { directory: path.clone(), path: "0.log".into(), max_line: 7 }),
            tty,
            stdin,
            stdin_once: !stdin,
            cgroup: grouped.then(|| CgroupRef { processes: path.clone(), memory: String::new() }),
            exit_path: path,
            attachable: tty,
        },
    )
}

proptest! {
    #[test]
    fn requests_survive_the_journey(id in 1u64.., run in run(), pid in 0i32.., created_at: i64, timeout_ms: u64) {
        let (ours, theirs) = pair();
        let streams = vec![Stream::Stdin.into(), Stream::Terminal.into()];
        let kinds = [
            RequestKind::Run(run.clone()),
            RequestKind::Adopt(Adopt { run: Some(run.clone()), pid, created_at, streams }),
            RequestKind::Attach(Attach { container_id: run.container_id.clone(), streams: vec![Stream::Stderr.into()] }),
            RequestKind::Exec(Exec { timeout_ms, leaves: vec!["/a".into()], ..Exec::default() }),
        ];
        for kind in kinds {
            let request = Request { id, kind: Some(kind) };
            send(&ours, &request, &[]).expect("send");
            prop_assert_eq!(receive::<Request>(&theirs, &mut vec![0; MAX_BYTES]).expect("receive").0, request);
        }
    }

    #[test]
    fn events_survive_the_journey(exit_code: i32, oom_killed: bool, finished_at: i64, bytes_lost: u64) {
        let facts = ExitFacts { exit_code, oom_killed, finished_at, bytes_lost, ..ExitFacts::default() };
        let kind = ResponseKind::Exited(Exited { container_id: "c".into(), facts: Some(facts) });
        let response = Response { id: 0, kind: Some(kind) };
        prop_assert_eq!(Response::decode(&response.encode_to_vec()[..]).expect("decode"), response);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 1..300)) {
        let (ours, theirs) = pair();
        send_bytes(&ours, &bytes, &[]).expect("send");
        let _ = receive::<Request>(&theirs, &mut [0; 512]);
        let _ = Response::decode(&bytes[..]);
        let _ = cricket_wire::helper::Report::decode(&bytes[..]);
    }
}
