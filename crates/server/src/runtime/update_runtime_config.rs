//! UpdateRuntimeConfig: renders containerd's `conf_template` with the node's pod CIDR, where one is configured.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::{CniTemplate, Service};

pub(super) async fn handle(
    service: &Service,
    request: v1::UpdateRuntimeConfigRequest,
) -> Result<v1::UpdateRuntimeConfigResponse, Error> {
    let cidrs = request.runtime_config.and_then(|c| c.network_config).map(|n| n.pod_cidr).unwrap_or_default();
    let template = service.0.config.cni_template.clone();
    if let (Some(template), false) = (template, cidrs.is_empty()) {
        let written = tokio::task::spawn_blocking(move || write(&template, &cidrs)).await;
        written.map_err(|e| Error::internal("render the CNI template", &e))??;
    }
    Ok(v1::UpdateRuntimeConfigResponse {})
}

fn write(paths: &CniTemplate, cidrs: &str) -> Result<(), Error> {
    let text = std::fs::read_to_string(&paths.template)
        .map_err(|e| Error::internal(format_args!("read {}", paths.template.display()), &e))?;
    let rendered = render(&text, cidrs)?;
    let staged = paths.target.with_extension("tmp");
    std::fs::write(&staged, rendered)
        .and_then(|()| std::fs::rename(&staged, &paths.target))
        .map_err(|e| Error::internal(format_args!("write {}", paths.target.display()), &e))
}

/// Renders the part of Go's template language that such files use: `{{.PodCIDR}}`, `{{range $i, $c := .PodCIDRRanges}}
/// … {{end}}` with `{{$c}}` and `{{if $i}}…{{end}}`, and the list of routes.
fn render(template: &str, cidrs: &str) -> Result<String, Error> {
    let ranges: Vec<&str> = cidrs.split(',').map(str::trim).filter(|c| !c.is_empty()).collect();
    if let Some(bad) = ranges.iter().find(|c| !c.chars().all(|ch| ch.is_ascii_hexdigit() || ".:/".contains(ch))) {
        return Err(Error::invalid(format_args!("pod CIDR {bad:?} is no network")));
    }
    let mut out = template.to_owned();
    for spelling in ["{{.PodCIDR}}", "{{ .PodCIDR }}"] {
        out = out.replace(spelling, ranges.first().unwrap_or(&""));
    }
    while let Some(begin) = out.find("{{range") {
        let end =
            block_end(&out[begin..]).map(|e| begin + e).ok_or_else(|| Error::invalid("template: range without end"))?;
        let block = out[begin..end].to_owned();
        let body = block.split_once("}}").map(|(_, rest)| rest).unwrap_or("");
        let body = body.strip_suffix("{{end}}").unwrap_or(body);
        let (body, separator) = take_condition(body);
        if !block.contains(".PodCIDRRanges") {
            return Err(Error::invalid("template: only a range over .PodCIDRRanges is supported"));
        }
        let variable = block.split("$").nth(2).map(|v| v.split([' ', ':']).next().unwrap_or("")).unwrap_or("");
        let each = |c: &&str| body.replace(&format!("{{{{${variable}}}}}"), c);
        let joined: Vec<String> = ranges.iter().map(each).collect();
        out.replace_range(begin..end, &joined.join(&separator));
    }
    if out.contains("{{") {
        return Err(Error::invalid("template: an expression that is not supported"));
    }
    Ok(out)
}

/// Splits `{{if $i}}, {{end}}body` into the body and the separator.
fn take_condition(body: &str) -> (String, String) {
    let parts = body.split_once("{{if").and_then(|(before, rest)| {
        let (_, rest) = rest.split_once("}}")?;
        let (inner, after) = rest.split_once("{{end}}")?;
        Some((format!("{before}{after}"), inner.to_owned()))
    });
    parts.unwrap_or_else(|| (body.to_owned(), String::new()))
}

/// Offset behind the `{{end}}` that closes the block at the beginning of `text`.
fn block_end(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    loop {
        let open = at + text[at..].find("{{")?;
        let close = open + text[open..].find("}}")? + 2;
        match &text[open + 2..close - 2] {
            e if e.starts_with("range") || e.starts_with("if") => depth += 1,
            "end" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(close);
        }
        at = close;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = r#"{"ranges": [{{range $i, $range := .PodCIDRRanges}}{{if $i}}, {{end}}[{"subnet": "{{$range}}"}]{{end}}], "first": "{{.PodCIDR}}"}"#;

    #[test]
    fn renders_every_range() {
        let text = render(TEMPLATE, "10.1.0.0/24,fd00::/64").expect("renders");
        assert_eq!(
            text,
            r#"{"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]], "first": "10.1.0.0/24"}"#
        );
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        assert!(render("{{.Secret}}", "10.1.0.0/24").is_err());
        assert!(render(TEMPLATE, "10.1.0.0/24\",evil").is_err());
        assert!(render("{{range $i, $c := .PodCIDRRanges}}", "10.1.0.0/24").is_err());
    }
}
