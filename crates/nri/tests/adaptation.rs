//! The merge next to NRI's own adaptation package, over a table and over random answers.

mod generate;
mod tools;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cricket_nri::api::{
    Container, ContainerAdjustment, ContainerUpdate, CreateContainerRequest, CreateContainerResponse, LinuxResources,
    Mount, OwningPlugins, PodSandbox, UpdateContainerRequest, UpdateContainerResponse,
};
use cricket_nri::merge::{Creating, Updating};
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};

/// The Go program, asked line by line.
struct Judge(Mutex<(Child, BufReader<ChildStdout>)>);

impl Drop for Judge {
    fn drop(&mut self) {
        let (child, _) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(child.stdin.take());
        let _ = child.wait();
    }
}

impl Judge {
    fn start() -> Option<Self> {
        let mut command = Command::new(tools::nri()?.join("nri-merge"));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("start nri-merge");
        let answers = child.stdout.take().map(BufReader::new);
        Some(Self(Mutex::new((child, answers.expect("stdout")))))
    }

    fn ask<M: Message>(&self, kind: &str, request: &impl Message, answers: &[M]) -> Value {
        let answers: Vec<Value> = answers
            .iter()
            .enumerate()
            .map(|(n, answer)| json!({ "plugin": plugin(n), "message": STANDARD.encode(answer.encode_to_vec()) }))
            .collect();
        let question = json!({ "kind": kind, "request": STANDARD.encode(request.encode_to_vec()), "answers": answers });
        let mut pipes = self.0.lock().expect("lock");
        writeln!(pipes.0.stdin.as_mut().expect("stdin"), "{question}").expect("ask");
        let mut line = String::new();
        pipes.1.read_line(&mut line).expect("answer");
        serde_json::from_str(&line).expect("JSON")
    }
}

fn plugin(n: usize) -> String {
    format!("{n}0-{}", ["first", "second", "third", "fourth"][n])
}

fn decode<M: Message + Default>(value: &Value) -> M {
    let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).expect("base64");
    M::decode(bytes.as_slice()).expect("message")
}

fn all<M: Message + Default>(value: &Value) -> Vec<M> {
    value.as_array().into_iter().flatten().map(decode).collect()
}

/// What differs on purpose, or by the order of Go's maps, is made alike.
fn alike(theirs: &mut ContainerAdjustment, ours: &mut ContainerAdjustment) {
    // Theirs loses removals of what the container had.
    ours.env.retain(|variable| !variable.key.starts_with('-'));
    for side in [&mut *theirs, &mut *ours] {
        // Additions keep their order; removals come in any.
        let (removed, mut kept): (Vec<Mount>, Vec<Mount>) =
            side.mounts.drain(..).partition(|mount| mount.destination.starts_with('-'));
        let mut removed = removed;
        removed.sort_by(|a, b| a.destination.cmp(&b.destination));
        kept.extend(removed);
        side.mounts = kept;
    }
    drop_shadowed(&mut theirs.annotations, &ours.annotations);
    if let (Some(theirs), Some(ours)) = (&mut theirs.linux, &mut ours.linux) {
        ours.devices.retain(|device| !device.path.starts_with('-'));
        drop_shadowed(&mut theirs.sysctl, &ours.sysctl);
        drop_shadowed(&mut theirs.net_devices, &ours.net_devices);
    }
}

/// Where an entry of one plugin is removed by another theirs has both, and which counts is up to the order of a map.
fn drop_shadowed<V>(theirs: &mut BTreeMap<String, V>, ours: &BTreeMap<String, V>) {
    theirs.retain(|key, _| ours.contains_key(key) || !ours.contains_key(&format!("-{key}")));
}

type Merged = Result<(ContainerAdjustment, Vec<ContainerUpdate>, OwningPlugins), String>;

fn create(container: &Container, answers: &[CreateContainerResponse]) -> Merged {
    let mut creating = Creating::new(container.clone());
    for (n, answer) in answers.iter().enumerate() {
        creating.apply(answer, &plugin(n)).map_err(|e| e.to_string())?;
    }
    Ok(creating.finish())
}

/// Compares one creation; returns whether it was a conflict.
fn compare_create(judge: &Judge, container: &Container, answers: &[CreateContainerResponse]) -> bool {
    let request = CreateContainerRequest { pod: Some(PodSandbox::default()), container: Some(container.clone()) };
    let theirs = judge.ask("create", &request, answers);
    let ours = create(container, answers);
    let Some(error) = theirs["error"].as_str() else {
        let (mut adjust, updates, owners) = ours.expect("no conflict in Go");
        let mut expected: ContainerAdjustment = decode(&theirs["adjust"]);
        alike(&mut expected, &mut adjust);
        assert_eq!(adjust, expected);
        assert_eq!(updates, all::<ContainerUpdate>(&theirs["updates"]));
        assert_eq!(owners, decode::<OwningPlugins>(&theirs["owners"]));
        return false;
    };
    let ours = ours.expect_err(error);
    assert!(ours.contains("both set") == error.contains("both tried"), "{ours} | {error}");
    true
}

fn compare_update(judge: &Judge, request: &UpdateContainerRequest, answers: &[UpdateContainerResponse]) -> bool {
    let theirs = judge.ask("update", request, answers);
    let id = request.container.as_ref().map(|container| container.id.clone()).unwrap_or_default();
    let mut updating = Updating::of(&id, request.linux_resources.clone().unwrap_or_default());
    let merge = |updating: &mut Updating| {
        answers.iter().enumerate().try_for_each(|(n, answer)| updating.apply(&answer.update, &plugin(n)))
    };
    let merged = merge(&mut updating);
    let Some(error) = theirs["error"].as_str() else {
        merged.expect("no conflict in Go");
        let (own, others) = updating.finish();
        assert_eq!(others, all::<ContainerUpdate>(&theirs["updates"]));
        let expected: Option<ContainerUpdate> = theirs["has_own"].as_bool().map(|_| decode(&theirs["own"]));
        let expected = expected.and_then(|update| update.linux).and_then(|linux| linux.resources);
        // An update of nothing, or one that failed and may: theirs sets nothing at all then, ours what was asked for.
        let nothing = LinuxResources {
            memory: Some(Default::default()),
            cpu: Some(Default::default()),
            ..LinuxResources::default()
        };
        if !(own.is_none() && expected.as_ref() == Some(&nothing)) {
            assert_eq!(own, expected);
        }
        return false;
    };
    merged.expect_err(error);
    true
}

#[test]
fn the_table() {
    let Some(judge) = Judge::start() else { return };
    for (name, answers, conflict) in generate::table() {
        eprintln!("{name}");
        let container = generate::container();
        assert_eq!(compare_create(&judge, &container, &answers), conflict.is_some(), "{name}");
        if let Some(text) = conflict {
            assert_eq!(create(&container, &answers).expect_err("conflict"), text, "{name}");
        }
    }
}

#[test]
fn random_creations() {
    let Some(judge) = Judge::start() else { return };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1500));
    let strategy = prop::collection::vec(generate::answer(), 1..4);
    let (conflicts, merged) = (Cell::new(0), Cell::new(0));
    let compared = runner.run(&strategy, |answers| {
        let conflict = compare_create(&judge, &generate::container(), &answers);
        let count = if conflict { &conflicts } else { &merged };
        count.set(count.get() + 1);
        Ok(())
    });
    compared.unwrap_or_else(|e| panic!("{e}"));
    let (conflicts, merged) = (conflicts.get(), merged.get());
    assert!(conflicts > 100 && merged > 100, "{conflicts} conflicts, {merged} merged: the generator is lopsided");
}

#[test]
fn random_updates() {
    let Some(judge) = Judge::start() else { return };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(700));
    let answers = prop::collection::vec(generate::updates(), 1..4);
    let compared = runner.run(&(generate::resources(), answers), |(resources, answers)| {
        let request = UpdateContainerRequest {
            pod: Some(PodSandbox::default()),
            container: Some(generate::container()),
            linux_resources: Some(LinuxResources { devices: Vec::new(), pids: None, ..resources }),
        };
        compare_update(&judge, &request, &answers);
        Ok(())
    });
    compared.unwrap_or_else(|e| panic!("{e}"));
}
