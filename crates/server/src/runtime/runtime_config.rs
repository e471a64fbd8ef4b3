//! RuntimeConfig: the cgroup driver, said explicitly (the zero value means systemd and overrides the kubelet's own).

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(service: &Service, _: v1::RuntimeConfigRequest) -> Result<v1::RuntimeConfigResponse, Error> {
    let driver = match service.0.pods.shared().cgroups.is_systemd() {
        true => v1::CgroupDriver::Systemd,
        false => v1::CgroupDriver::Cgroupfs,
    };
    let linux = v1::LinuxRuntimeConfiguration { cgroup_driver: driver.into() };
    Ok(v1::RuntimeConfigResponse { linux: Some(linux) })
}
