//! `Tasks.Get`: the first process of a container, or the one that is in a sandbox's network namespace.

use cricket_pod::{ContainerState, SandboxState};
use tonic::Status;

use super::messages::{GetRequest, GetResponse, Process, Status as TaskStatus};
use super::{Cadvisor, Found};

pub(super) fn handle(service: &Cadvisor, request: &GetRequest) -> Result<GetResponse, Status> {
    let id = &request.container_id;
    let absent = || Status::not_found(format!("process of container {id}: not found"));
    let found = service.find(id)?;
    if !request.exec_id.is_empty() {
        return Err(absent());
    }
    let (pid, status, exit_status) = match &found {
        Found::Sandbox(pod) => match (pod.record.sandbox.state, pod.record.sandbox.init) {
            (SandboxState::Ready, Some((pid, _))) => (pid, TaskStatus::Running, 0),
            _ => return Err(absent()),
        },
        Found::Container(_, record) => match &record.state {
            ContainerState::Running(running) => (running.pid, TaskStatus::Running, 0),
            ContainerState::Exited(exited) => (0, TaskStatus::Stopped, exited.code.cast_unsigned()),
            // Its control group is there before its process is known: cAdvisor asks again.
            ContainerState::Starting => (0, TaskStatus::Unknown, 0),
            _ => return Err(absent()),
        },
    };
    let process = Process { container_id: id.clone(), id: id.clone(), pid, status: status.into(), exit_status };
    Ok(GetResponse { process: Some(process) })
}
