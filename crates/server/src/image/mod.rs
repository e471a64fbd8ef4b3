//! ImageService: which file answers which RPC.

mod image_fs_info;
mod image_status;
mod list_images;
mod pull_image;
mod remove_image;
mod stream_images;

use cricket_cri_api::v1;
use cricket_cri_api::v1::image_service_server::ImageService;
use tonic::{Request, Response, Status};

use crate::Service;
use crate::instrument::{Subject, answer};
use crate::pieces::Streamed;

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        answer("ListImages", Subject::none(), list_images::handle(self, request.into_inner())).await
    }

    type StreamImagesStream = Streamed<v1::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        answer("StreamImages", Subject::none(), stream_images::handle(self, request.into_inner())).await
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Result<Response<v1::ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::image(request.image.as_ref());
        answer("ImageStatus", subject, image_status::handle(self, request)).await
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::image(request.image.as_ref());
        answer("PullImage", subject, pull_image::handle(self, request)).await
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        let request = request.into_inner();
        let subject = Subject::image(request.image.as_ref());
        answer("RemoveImage", subject, remove_image::handle(self, request)).await
    }

    async fn image_fs_info(
        &self,
        request: Request<v1::ImageFsInfoRequest>,
    ) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
        answer("ImageFsInfo", Subject::none(), image_fs_info::handle(self, request.into_inner())).await
    }
}
