//! A plan as JSON, for the container's record. It is written by hand, since the code that serde
//! derives would be several times as large.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::attachment::{Attachment, Plan, Search};
use super::list::{NetworkList, list};

impl Plan {
    /// The plan as JSON.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let search = &self.search;
        let bin_dirs: Vec<_> = search
            .bin_dirs
            .iter()
            .map(|dir| dir.to_string_lossy())
            .collect();
        let attachments: Vec<Value> = self.attachments.iter().map(Attachment::to_value).collect();
        json!({
            "attachments": attachments,
            "conf_dir": search.conf_dir.to_string_lossy(),
            "bin_dirs": bin_dirs,
            "timeout_s": search.timeout_s,
            "servers": self.servers,
            "files": self.files,
            "unprivileged": self.unprivileged,
        })
    }

    /// The plan from the JSON that [`Plan::to_value`] returned; `None` if the value has another
    /// form.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let attachments = value.get("attachments")?.as_array()?.iter();
        let paths = |key| {
            let paths = texts(value, key)?.into_iter();
            Some(paths.map(PathBuf::from).collect())
        };
        Some(Self {
            attachments: attachments
                .map(Attachment::from_value)
                .collect::<Option<_>>()?,
            search: Search {
                conf_dir: value.get("conf_dir")?.as_str()?.into(),
                bin_dirs: paths("bin_dirs")?,
                timeout_s: u32::try_from(value.get("timeout_s")?.as_u64()?).ok()?,
            },
            servers: texts(value, "servers")?,
            files: value.get("files")?.as_bool()?,
            unprivileged: value.get("unprivileged")?.as_bool()?,
        })
    }
}

impl Attachment {
    fn to_value(&self) -> Value {
        let NetworkList {
            name,
            version,
            plugins,
            disable_check,
            disable_gc,
        } = &self.network;
        let plugins: Vec<&Map<String, Value>> = plugins.iter().map(|p| &p.config).collect();
        json!({
            "network": {
                "name": name,
                "cniVersion": version.text(),
                "plugins": plugins,
                "disableCheck": disable_check,
                "disableGC": disable_gc,
            },
            "interface": self.interface,
            "arguments": self.arguments,
            "begun": self.begun,
            "result": self.result,
        })
    }

    fn from_value(value: &Value) -> Option<Self> {
        let network = value.get("network")?.as_object()?.clone();
        Some(Self {
            network: list(network).ok()?.list,
            interface: value.get("interface")?.as_str()?.to_owned(),
            arguments: value.get("arguments")?.as_object()?.clone(),
            begun: value.get("begun")?.as_bool()?,
            result: value
                .get("result")
                .filter(|result| !result.is_null())
                .cloned(),
        })
    }
}

fn texts(value: &Value, key: &str) -> Option<Vec<String>> {
    let texts = value.get(key)?.as_array()?.iter();
    texts.map(|text| text.as_str().map(str::to_owned)).collect()
}
