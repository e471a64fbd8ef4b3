//! ImageFsInfo.

use cricket_cri_api::v1;
use cricket_image::FsKind;
use cricket_pod::Error;

use crate::Service;
use crate::convert::stats::filesystem;

pub(super) async fn handle(service: &Service, _: v1::ImageFsInfoRequest) -> Result<v1::ImageFsInfoResponse, Error> {
    let all = service.0.images.fs_info();
    let of = |kind: FsKind| all.iter().filter(|u| u.kind == kind).map(filesystem).collect();
    Ok(v1::ImageFsInfoResponse { image_filesystems: of(FsKind::Images), container_filesystems: of(FsKind::Containers) })
}
