//! `linux.resources.hugepageLimits`: cgroup-v1/hugetlb.rst, cgroup-v2.rst § HugeTLB.

use coracle_bundle::HugepageLimit;

use super::limits::Version;
use super::write::Write;
use crate::{Error, Result};

/// Limits on use and, where the kernel has it (5.7), on reservation.
pub(super) fn plan(limits: &[HugepageLimit], version: Version) -> Result<Vec<Write>> {
    let end = match version {
        Version::V1 => "limit_in_bytes",
        Version::V2 => "max",
    };
    let mut writes = Vec::new();
    for (index, HugepageLimit { page_size, limit }) in limits.iter().enumerate() {
        let source = format!("linux.resources.hugepageLimits[{index}].limit");
        if !is_page_size(page_size) {
            let path = format!("linux.resources.hugepageLimits[{index}].pageSize");
            let reason = format!("`{page_size}` is no page size such as 64KB, 2MB or 1GB");
            return Err(Error::config(path, reason));
        }
        let file = |middle: &str| format!("hugetlb.{page_size}.{middle}{end}");
        writes.push(Write::new(file(""), limit, &source));
        writes.push(Write::new(file("rsvd."), limit, &source).if_there());
    }
    Ok(writes)
}

/// Digits, a unit, `B`: it becomes part of a file's name.
fn is_page_size(text: &str) -> bool {
    let Some(number) = text.strip_suffix('B') else {
        return false;
    };
    let number = number.strip_suffix(['K', 'M', 'G']).unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::super::write::text;
    use super::*;

    fn check(page_size: &str, version: Version, expected: &str) {
        let limit = HugepageLimit {
            page_size: page_size.to_owned(),
            limit: 4096,
        };
        assert_eq!(text(&plan(&[limit], version)), expected);
    }

    #[test]
    fn both_files() {
        check(
            "2MB",
            Version::V1,
            "hugetlb.2MB.limit_in_bytes=4096 hugetlb.2MB.rsvd.limit_in_bytes=4096 (if there)",
        );
        check(
            "1GB",
            Version::V2,
            "hugetlb.1GB.max=4096 hugetlb.1GB.rsvd.max=4096 (if there)",
        );
    }

    #[test]
    fn page_sizes_are_names_of_files() {
        for bad in ["", "B", "MB", "2M", "2mB", "../2MB", "2 MB", "2TB"] {
            let path = "linux.resources.hugepageLimits[0].pageSize";
            let reason = "is no page size such as 64KB, 2MB or 1GB";
            check(
                bad,
                Version::V2,
                &format!("error: {path}: `{bad}` {reason}"),
            );
        }
    }
}
