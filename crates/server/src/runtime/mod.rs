//! RuntimeService: which file answers which RPC.

mod attach;
mod container_stats;
mod container_status;
mod create_container;
mod exec;
mod exec_sync;
mod get_container_events;
mod list_container_stats;
mod list_containers;
mod list_metric_descriptors;
mod list_pod_sandbox;
mod list_pod_sandbox_metrics;
mod list_pod_sandbox_stats;
mod pod_sandbox_stats;
mod pod_sandbox_status;
mod port_forward;
mod remove_container;
mod remove_pod_sandbox;
mod reopen_container_log;
mod run_pod_sandbox;
mod runtime_config;
mod start_container;
mod status;
mod stop_container;
mod stop_pod_sandbox;
mod stream_container_stats;
mod stream_containers;
mod stream_pod_sandbox_metrics;
mod stream_pod_sandbox_stats;
mod stream_pod_sandboxes;
mod streams;
mod update_container_resources;
mod update_pod_sandbox_resources;
mod update_runtime_config;
mod version;

use cricket_cri_api::v1;
use cricket_cri_api::v1::runtime_service_server::RuntimeService;
use tonic::{Request, Response, Status};

use crate::Service;
use crate::instrument::{Subject, answer, answer_made};
use crate::pieces::Streamed;

/// What is answered for an RPC that this version does not have.
fn missing<T>(rpc: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("{rpc} is not implemented by this version of cricket")))
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, request: Request<v1::VersionRequest>) -> Result<Response<v1::VersionResponse>, Status> {
        answer("Version", Subject::none(), version::handle(self, request.into_inner())).await
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Result<Response<v1::RunPodSandboxResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::new_pod(request.config.as_ref());
        let made = |subject: &mut Subject, r: &v1::RunPodSandboxResponse| subject.set_pod(&r.pod_sandbox_id);
        answer_made("RunPodSandbox", subject, made, run_pod_sandbox::handle(self, request)).await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Result<Response<v1::StopPodSandboxResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::pod(&request.pod_sandbox_id);
        answer("StopPodSandbox", subject, stop_pod_sandbox::handle(self, request)).await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Result<Response<v1::RemovePodSandboxResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::pod(&request.pod_sandbox_id);
        answer("RemovePodSandbox", subject, remove_pod_sandbox::handle(self, request)).await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Result<Response<v1::PodSandboxStatusResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::pod(&request.pod_sandbox_id);
        answer("PodSandboxStatus", subject, pod_sandbox_status::handle(self, request)).await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Result<Response<v1::ListPodSandboxResponse>, Status> {
        answer("ListPodSandbox", Subject::none(), list_pod_sandbox::handle(self, request.into_inner())).await
    }

    type StreamPodSandboxesStream = Streamed<v1::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Result<Response<Self::StreamPodSandboxesStream>, Status> {
        answer("StreamPodSandboxes", Subject::none(), stream_pod_sandboxes::handle(self, request.into_inner())).await
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Result<Response<v1::CreateContainerResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::new_container(&request);
        let made = |subject: &mut Subject, r: &v1::CreateContainerResponse| subject.set_container(&r.container_id);
        answer_made("CreateContainer", subject, made, create_container::handle(self, request)).await
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Result<Response<v1::StartContainerResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::container(self, &request.container_id);
        answer("StartContainer", subject, start_container::handle(self, request)).await
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Result<Response<v1::StopContainerResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::container(self, &request.container_id);
        answer("StopContainer", subject, stop_container::handle(self, request)).await
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Result<Response<v1::RemoveContainerResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::container(self, &request.container_id);
        answer("RemoveContainer", subject, remove_container::handle(self, request)).await
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<v1::ListContainersResponse>, Status> {
        answer("ListContainers", Subject::none(), list_containers::handle(self, request.into_inner())).await
    }

    type StreamContainersStream = Streamed<v1::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Result<Response<Self::StreamContainersStream>, Status> {
        answer("StreamContainers", Subject::none(), stream_containers::handle(self, request.into_inner())).await
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Result<Response<v1::ContainerStatusResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::container_id(&request.container_id);
        answer("ContainerStatus", subject, container_status::handle(self, request)).await
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Result<Response<v1::UpdateContainerResourcesResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::container(self, &request.container_id);
        answer("UpdateContainerResources", subject, update_container_resources::handle(self, request)).await
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Result<Response<v1::ReopenContainerLogResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::container(self, &request.container_id);
        answer("ReopenContainerLog", subject, reopen_container_log::handle(self, request)).await
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Result<Response<v1::ExecSyncResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::container(self, &request.container_id);
        answer("ExecSync", subject, exec_sync::handle(self, request)).await
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Result<Response<v1::ExecResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::container(self, &request.container_id);
        answer("Exec", subject, exec::handle(self, request)).await
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Result<Response<v1::AttachResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::container(self, &request.container_id);
        answer("Attach", subject, attach::handle(self, request)).await
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Result<Response<v1::PortForwardResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::pod(&request.pod_sandbox_id);
        answer("PortForward", subject, port_forward::handle(self, request)).await
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Result<Response<v1::ContainerStatsResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::container_id(&request.container_id);
        answer("ContainerStats", subject, container_stats::handle(self, request)).await
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Result<Response<v1::ListContainerStatsResponse>, Status> {
        answer("ListContainerStats", Subject::none(), list_container_stats::handle(self, request.into_inner())).await
    }

    type StreamContainerStatsStream = Streamed<v1::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Result<Response<Self::StreamContainerStatsStream>, Status> {
        answer("StreamContainerStats", Subject::none(), stream_container_stats::handle(self, request.into_inner()))
            .await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Result<Response<v1::PodSandboxStatsResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::pod(&request.pod_sandbox_id);
        answer("PodSandboxStats", subject, pod_sandbox_stats::handle(self, request)).await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Result<Response<v1::ListPodSandboxStatsResponse>, Status> {
        answer("ListPodSandboxStats", Subject::none(), list_pod_sandbox_stats::handle(self, request.into_inner())).await
    }

    type StreamPodSandboxStatsStream = Streamed<v1::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxStatsStream>, Status> {
        answer("StreamPodSandboxStats", Subject::none(), stream_pod_sandbox_stats::handle(self, request.into_inner()))
            .await
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Result<Response<v1::UpdateRuntimeConfigResponse>, Status> {
        answer("UpdateRuntimeConfig", Subject::none(), update_runtime_config::handle(self, request.into_inner())).await
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        answer("Status", Subject::none(), status::handle(self, request.into_inner())).await
    }

    async fn checkpoint_container(
        &self,
        _: Request<v1::CheckpointContainerRequest>,
    ) -> Result<Response<v1::CheckpointContainerResponse>, Status> {
        missing("CheckpointContainer")
    }

    async fn checkpoint_pod(
        &self,
        _: Request<v1::CheckpointPodRequest>,
    ) -> Result<Response<v1::CheckpointPodResponse>, Status> {
        missing("CheckpointPod")
    }

    async fn restore_pod(&self, _: Request<v1::RestorePodRequest>) -> Result<Response<v1::RestorePodResponse>, Status> {
        missing("RestorePod")
    }

    type GetContainerEventsStream = Streamed<v1::ContainerEventResponse>;

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
        Ok(Response::new(get_container_events::handle(self)))
    }

    async fn list_metric_descriptors(
        &self,
        request: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Result<Response<v1::ListMetricDescriptorsResponse>, Status> {
        answer("ListMetricDescriptors", Subject::none(), list_metric_descriptors::handle(request.into_inner())).await
    }

    async fn list_pod_sandbox_metrics(
        &self,
        request: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Result<Response<v1::ListPodSandboxMetricsResponse>, Status> {
        answer("ListPodSandboxMetrics", Subject::none(), list_pod_sandbox_metrics::handle(self, request.into_inner()))
            .await
    }

    type StreamPodSandboxMetricsStream = Streamed<v1::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        request: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxMetricsStream>, Status> {
        answer(
            "StreamPodSandboxMetrics",
            Subject::none(),
            stream_pod_sandbox_metrics::handle(self, request.into_inner()),
        )
        .await
    }

    async fn runtime_config(
        &self,
        request: Request<v1::RuntimeConfigRequest>,
    ) -> Result<Response<v1::RuntimeConfigResponse>, Status> {
        answer("RuntimeConfig", Subject::none(), runtime_config::handle(self, request.into_inner())).await
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Result<Response<v1::UpdatePodSandboxResourcesResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::pod(&request.pod_sandbox_id);
        answer("UpdatePodSandboxResources", subject, update_pod_sandbox_resources::handle(self, request)).await
    }
}
