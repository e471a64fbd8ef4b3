//! How long a launch takes, printed for a person; a debug build, so the bound only catches something absurd.

use std::time::{Duration, Instant};

use crate::harness::Fixture;

#[test]
fn fifty_launches() {
    let mut times: Vec<Duration> = (0..50)
        .map(|_| {
            let fixture = Fixture::new(&["/bin/sleep", "30"]);
            let start = Instant::now();
            let launched = fixture.launch();
            let took = start.elapsed();
            launched.pid();
            took
        })
        .collect();
    times.sort();
    println!("launch: p50 {:?}, p90 {:?}, max {:?}", times[25], times[45], times[49]);
    assert!(times[25] < Duration::from_secs(2), "{:?}", times[25]);
}
