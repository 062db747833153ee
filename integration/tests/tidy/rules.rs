//! Rules for one file: each is a function from its source to complaints. How long functions may be,
//! how many parameters they take and what is unsafe are clippy's and the compiler's to check; see
//! `clippy.toml` and the lints of the workspace.

use std::collections::BTreeSet;

use proc_macro2::Span;
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{
    Attribute, ExprMethodCall, FnArg, ImplItemFn, ItemFn, ItemMod, ItemUse, Macro, Signature, Type,
    Visibility,
};

use crate::source::{Source, Words, leaves, paths};

/// Lines of a file that hold code of the product.
pub(crate) const FILE_LINES: usize = 500;
const COLUMNS: usize = 100;
const VAGUE_MODULES: [&str; 9] = [
    "common", "helper", "helpers", "manager", "misc", "types", "util", "utils", "utility",
];
const LOG_MACROS: [&str; 8] = [
    "error", "warn", "info", "debug", "trace", "log", "println", "eprintln",
];
/// The items of `coracle_sys` that a plan may use besides types: a table of constants.
const PURE_OF_SYS: [&str; 1] = ["mount_attribute"];
const IMPURE_MODULES: [&str; 4] = ["fs", "env", "process", "net"];
const IMPURE_NAMES: [&str; 2] = ["SystemTime", "Instant"];
/// Methods of `Path` that ask the kernel.
const IMPURE_METHODS: [&str; 10] = [
    "exists",
    "try_exists",
    "is_file",
    "is_dir",
    "is_symlink",
    "metadata",
    "symlink_metadata",
    "canonicalize",
    "read_link",
    "read_dir",
];

/// Words for which docs/glossary.md has others.
const REPLACED_WORDS: [&str; 21] = [
    "asked",
    "cage",
    "complaint",
    "descent",
    "dial",
    "door",
    "garbage",
    "gate",
    "given",
    "goal",
    "handoff",
    "heard",
    "house",
    "jail",
    "keyhole",
    "said",
    "site",
    "spoken",
    "tell",
    "told",
    "unborn",
];

pub(crate) type Rule = fn(&Source) -> Vec<String>;

/// Rules for the product, and those for tests too.
pub(crate) const OF_THE_PRODUCT: [Rule; 9] = [
    long_file,
    long_lines,
    bool_parameters,
    unsafe_allowed,
    impure_plan,
    panicking_directories,
    logged_errors,
    replaced_words,
    wall_clock,
];

/// Where the time of day is read: for the log and for the record. It may be set back at any moment,
/// so that no wait is measured by it.
const TIME_OF_DAY: [&str; 3] = [
    "crates/cli/src/log.rs",
    "crates/container/src/creation.rs",
    "crates/container/src/timestamp.rs",
];

pub(crate) const OF_ALL: [Rule; 2] = [vague_modules, ignored_tests];

pub(crate) fn wall_clock(source: &Source) -> Vec<String> {
    let reads = source.text.contains("SystemTime") && !TIME_OF_DAY.contains(&source.path.as_str());
    let complaint = || format!("{}: a wait is measured by Instant", source.path);
    reads.then(complaint).into_iter().collect()
}

pub(crate) fn long_file(source: &Source) -> Vec<String> {
    match source.lines_of_code() {
        count if count > FILE_LINES => vec![format!("{}: {count} lines of code", source.path)],
        _ => Vec::new(),
    }
}

/// rustfmt leaves comments and literals as they are.
pub(crate) fn long_lines(source: &Source) -> Vec<String> {
    let lines = source.text.lines().enumerate();
    let long = lines.map(|(number, line)| (number + 1, line.chars().count()));
    long.filter(|(_, columns)| *columns > COLUMNS)
        .map(|(number, columns)| format!("{}:{number}: {columns} columns", source.path))
        .collect()
}

/// Complaints, each with its place.
#[derive(Default)]
struct Found(Vec<(usize, String)>);

impl Found {
    fn add(&mut self, span: Span, text: String) {
        self.0.push((span.start().line, text));
    }

    /// One a line: a name is found where it is imported; once is enough.
    fn complaints(mut self, source: &Source) -> Vec<String> {
        self.0.dedup_by_key(|(line, _)| *line);
        let complaints = self.0.into_iter();
        complaints
            .map(|(line, text)| format!("{}:{line}: {text}", source.path))
            .collect()
    }
}

pub(crate) fn bool_parameters(source: &Source) -> Vec<String> {
    struct Finder(Found);
    impl Finder {
        fn function(&mut self, visibility: &Visibility, signature: &Signature) {
            let is_bool = |parameter: &FnArg| {
                matches!(parameter, FnArg::Typed(typed)
                    if matches!(&*typed.ty, Type::Path(path) if path.path.is_ident("bool")))
            };
            let is_public = matches!(visibility, Visibility::Public(_));
            if is_public && signature.inputs.iter().any(is_bool) {
                let text = format!("`{}` takes a bool", signature.ident);
                self.0.add(signature.ident.span(), text);
            }
        }
    }
    impl<'ast> Visit<'ast> for Finder {
        fn visit_item_fn(&mut self, function: &'ast ItemFn) {
            self.function(&function.vis, &function.sig);
        }

        fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
            self.function(&function.vis, &function.sig);
        }
    }
    let mut finder = Finder(Found::default());
    finder.visit_file(&source.product);
    finder.0.complaints(source)
}

/// The compiler refuses unsafe code wherever this is not said.
pub(crate) fn unsafe_allowed(source: &Source) -> Vec<String> {
    let names = paths(source.file.to_token_stream()).concat();
    let is_bad = names.iter().any(|name| name == "unsafe_code");
    match is_bad && !source.path.starts_with("crates/sys/") {
        true => vec![format!("{}: unsafe code is allowed", source.path)],
        false => Vec::new(),
    }
}

/// All paths of a file, in full where they are imported, and the methods that are called.
#[derive(Default)]
struct Names {
    paths: Vec<(Span, Words)>,
    methods: Vec<(Span, String)>,
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let leaves = leaves(&item.tree, &[]).into_iter();
        self.paths
            .extend(leaves.map(|(path, _)| (item.use_token.span, path)));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words = path.segments.iter().map(|part| part.ident.to_string());
        self.paths.push((start(path), words.collect()));
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        self.methods
            .push((call.method.span(), call.method.to_string()));
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        let paths = paths(call.tokens.clone()).into_iter();
        self.paths
            .extend(paths.map(|path| (start(&call.path), path)));
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

impl Names {
    fn of(source: &Source) -> Self {
        let mut names = Self::default();
        names.visit_file(&source.product);
        names
    }
}

fn start(path: &syn::Path) -> Span {
    let first = path.segments.first();
    first.map_or_else(Span::call_site, |part| part.ident.span())
}

pub(crate) fn impure_plan(source: &Source) -> Vec<String> {
    let mut found = Found::default();
    if source.path.ends_with("/src/plan.rs") || source.path.contains("/src/plan/") {
        let names = Names::of(source);
        for (span, path) in names.paths.iter().filter(|(_, path)| is_impure(path)) {
            found.add(*span, format!("a plan uses {}", path.join("::")));
        }
        for (span, name) in &names.methods {
            if IMPURE_METHODS.contains(&name.as_str()) {
                found.add(*span, format!("a plan calls {name}"));
            }
        }
    }
    found.complaints(source)
}

/// Modules of `std` that ask the machine, and functions of the crates that call the kernel. Types
/// begin with a capital letter, constants are in capitals.
fn is_impure(path: &[String]) -> bool {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    let is_named = |part: &&str| part.starts_with(char::is_uppercase);
    match parts.as_slice() {
        parts if parts.iter().any(|part| IMPURE_NAMES.contains(part)) => true,
        ["std", module, ..] => IMPURE_MODULES.contains(module),
        ["coracle_sys", name, ..] => !is_named(name) && !PURE_OF_SYS.contains(name),
        ["nix" | "libc", .., name] => {
            let is_c_type = name.starts_with("c_") || name.ends_with("_t");
            !parts.iter().any(is_named) && !is_c_type && parts.len() > 1 && *name != "libc"
        }
        _ => false,
    }
}

/// The directories of the standard library and of nix panic if close(2) fails; `list_directory` of
/// `coracle_sys` does not.
pub(crate) fn panicking_directories(source: &Source) -> Vec<String> {
    let names = Names::of(source);
    let mut found = Found::default();
    for (span, path) in &names.paths {
        if path.iter().any(|name| name == "read_dir") || path.starts_with(&nix_dir()) {
            found.add(*span, path.join("::"));
        }
    }
    for (span, name) in names.methods.iter().filter(|(_, name)| name == "read_dir") {
        found.add(*span, name.clone());
    }
    found.complaints(source)
}

fn nix_dir() -> Words {
    ["nix", "dir"].map(str::to_owned).to_vec()
}

pub(crate) fn logged_errors(source: &Source) -> Vec<String> {
    struct Logs(bool);
    impl<'ast> Visit<'ast> for Logs {
        fn visit_macro(&mut self, call: &'ast Macro) {
            let last = call.path.segments.last();
            let name = last.map(|part| part.ident.to_string()).unwrap_or_default();
            self.0 |= LOG_MACROS.contains(&name.as_str());
        }
    }
    struct Finder(Found);
    impl<'ast> Visit<'ast> for Finder {
        fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
            if call.method == "map_err" {
                let mut logs = Logs(false);
                call.args
                    .iter()
                    .for_each(|argument| logs.visit_expr(argument));
                if logs.0 {
                    self.0
                        .add(call.method.span(), "map_err logs as well".to_owned());
                }
            }
            visit::visit_expr_method_call(self, call);
        }
    }
    let mut finder = Finder(Found::default());
    finder.visit_file(&source.product);
    finder.0.complaints(source)
}

/// Each name of the product that holds a replaced word.
pub(crate) fn replaced_words(source: &Source) -> Vec<String> {
    let names = paths(source.product.to_token_stream()).concat();
    let names: BTreeSet<&String> = names.iter().filter(|name| is_replaced(name)).collect();
    let names = names.into_iter();
    names
        .map(|name| {
            format!(
                "{}: `{name}`, which docs/glossary.md calls otherwise",
                source.path
            )
        })
        .collect()
}

fn is_replaced(name: &str) -> bool {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() {
            words.push('_');
        }
        words.extend(letter.to_lowercase());
    }
    words.split('_').any(|word| REPLACED_WORDS.contains(&word))
}

pub(crate) fn vague_modules(source: &Source) -> Vec<String> {
    struct Finder(Found);
    impl<'ast> Visit<'ast> for Finder {
        fn visit_item_mod(&mut self, module: &'ast ItemMod) {
            let name = module.ident.to_string();
            if VAGUE_MODULES.contains(&name.as_str()) {
                self.0
                    .add(module.ident.span(), format!("a module named `{name}`"));
            }
            visit::visit_item_mod(self, module);
        }
    }
    let mut finder = Finder(Found::default());
    finder.visit_file(&source.file);
    finder.0.complaints(source)
}

pub(crate) fn ignored_tests(source: &Source) -> Vec<String> {
    struct Finder(Found);
    impl<'ast> Visit<'ast> for Finder {
        fn visit_attribute(&mut self, attribute: &'ast Attribute) {
            if attribute.path().is_ident("ignore") {
                self.0.add(
                    attribute.pound_token.span,
                    "a test that is not run".to_owned(),
                );
            }
        }
    }
    let mut finder = Finder(Found::default());
    finder.visit_file(&source.file);
    finder.0.complaints(source)
}
