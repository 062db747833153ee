//! Files of a crate that import from one another in a circle. Every path of the product is resolved
//! to the file that defines what it names: a re-export leads on to the definition, and a re-export or
//! `mod` by itself is no import.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Macro, VisRestricted, Visibility};

use crate::source::{Words, attributes, file_of, is_test, leaves, paths};

/// Which names a file has from which other: `imports[file][from]`.
type Imports = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

/// A name in a module.
#[derive(Clone, Debug)]
enum Named {
    /// Defined there.
    Item,
    /// A module, by its number.
    Module(usize),
    /// Imported: the path as it is written.
    Import(Words),
    /// Exported once more.
    Export(Words),
}

#[derive(Debug, Default)]
struct Module {
    file: PathBuf,
    parent: Option<usize>,
    names: BTreeMap<String, Named>,
    /// `use PATH::*`
    globs: Vec<Words>,
    /// All other paths that it writes.
    paths: BTreeSet<Words>,
}

/// The modules of a program or library; the first is its root.
#[derive(Debug, Default)]
struct Modules(Vec<Module>);

/// Where a path leads.
#[derive(Clone, Copy, Debug)]
enum Target {
    Module(usize),
    /// An item of this module.
    Item(usize),
}

/// Imports between the files of the crate in this folder.
pub(crate) fn imports(folder: &Path) -> Imports {
    let roots = ["src/lib.rs", "src/main.rs"].map(|root| folder.join(root));
    let mut imports = Imports::new();
    for root in roots.iter().filter(|root| root.exists()) {
        let mut modules = Modules::default();
        modules.read_file(root, None);
        modules.add_imports(&mut imports);
    }
    imports
}

/// The circles among imports: sets of files each of which reaches every other.
pub(crate) fn circles(imports: &Imports) -> Vec<BTreeSet<PathBuf>> {
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> = imports
        .keys()
        .map(|file| (file, reached_from(imports, file)))
        .collect();
    let together = |a: &PathBuf, b: &PathBuf| {
        let reaches = |a, b| reached.get(a).is_some_and(|files| files.contains(b));
        reaches(a, b) && reaches(b, a)
    };
    let mut found: BTreeSet<BTreeSet<PathBuf>> = BTreeSet::new();
    for file in imports.keys().filter(|file| together(file, file)) {
        let circle = imports.keys().filter(|other| together(file, other));
        found.insert(circle.cloned().collect());
    }
    found.into_iter().collect()
}

fn reached_from<'a>(imports: &'a Imports, file: &'a PathBuf) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![file];
    while let Some(file) = waiting.pop() {
        for next in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(next) {
                waiting.push(next);
            }
        }
    }
    reached
}

/// A circle as lines `A uses B: NAMES`, paths from this folder.
pub(crate) fn described(
    circle: &BTreeSet<PathBuf>,
    imports: &Imports,
    folder: &Path,
) -> Vec<String> {
    let short = |file: &Path| {
        file.strip_prefix(folder)
            .unwrap_or(file)
            .display()
            .to_string()
    };
    let mut lines = Vec::new();
    for file in circle {
        for (from, names) in imports.get(file).into_iter().flatten() {
            if circle.contains(from) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let (file, from) = (short(file), short(from));
                lines.push(format!("{file} uses {from}: {}", names.join(", ")));
            }
        }
    }
    lines
}

impl Modules {
    fn read_file(&mut self, path: &Path, parent: Option<usize>) -> usize {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        self.read_items(&file.items, path, parent)
    }

    fn read_items(&mut self, items: &[Item], file: &Path, parent: Option<usize>) -> usize {
        let number = self.0.len();
        self.0.push(Module {
            file: file.to_owned(),
            parent,
            ..Module::default()
        });
        for item in items {
            let mut reader = Reader::default();
            reader.visit_item(item);
            let Reader { module, children } = reader;
            for child in children {
                let below = match &child.content {
                    Some((_, items)) => self.read_items(items, file, Some(number)),
                    None => self.read_file(&file_of(child, file), Some(number)),
                };
                let name = child.ident.to_string();
                self.0[number].names.insert(name, Named::Module(below));
            }
            let own = &mut self.0[number];
            own.globs.extend(module.globs);
            own.paths.extend(module.paths);
            for (name, named) in module.names {
                own.names.entry(name).or_insert(named);
            }
        }
        number
    }

    fn add_imports(&self, imports: &mut Imports) {
        for (number, module) in self.0.iter().enumerate() {
            let from = imports.entry(module.file.clone()).or_default();
            for path in &module.paths {
                let Some(Target::Item(other)) = self.resolve(path, number, 0) else {
                    continue;
                };
                let other = &self.0[other].file;
                if *other != module.file {
                    let names = from.entry(other.clone()).or_default();
                    names.insert(item_of(path).to_owned());
                }
            }
        }
    }

    /// Where a path leads that stands in this module; nowhere if to another crate.
    fn resolve(&self, path: &[String], module: usize, depth: usize) -> Option<Target> {
        let (first, mut rest) = path.split_first()?;
        let mut target = match first.as_str() {
            "crate" => Target::Module(0),
            "self" => Target::Module(module),
            "super" => Target::Module(self.0[module].parent?),
            name => self.named(name, module, depth)?,
        };
        while let (Target::Module(module), Some((name, others))) = (target, rest.split_first()) {
            target = match name.as_str() {
                "super" => Target::Module(self.0[module].parent?),
                "self" => target,
                // An item that a macro makes has no name here, and belongs to the module.
                name => self
                    .named(name, module, depth)
                    .unwrap_or(Target::Item(module)),
            };
            rest = others;
        }
        Some(target)
    }

    fn named(&self, name: &str, module: usize, depth: usize) -> Option<Target> {
        // Two modules that export each other's names wholesale.
        if depth > 16 {
            return None;
        }
        match self.0[module].names.get(name) {
            Some(Named::Item) => Some(Target::Item(module)),
            Some(Named::Module(number)) => Some(Target::Module(*number)),
            // `use name::name` looks in other crates for its first word.
            Some(Named::Import(path)) if path.first().is_some_and(|first| first == name) => None,
            Some(Named::Import(path) | Named::Export(path)) => {
                self.resolve(path, module, depth + 1)
            }
            None => self.named_in_globs(name, module, depth),
        }
    }

    fn named_in_globs(&self, name: &str, module: usize, depth: usize) -> Option<Target> {
        self.0[module].globs.iter().find_map(|path| {
            let Target::Module(other) = self.resolve(path, module, depth + 1)? else {
                return None;
            };
            match self.0[other].names.get(name) {
                // A private import of another module cannot be used from here.
                Some(Named::Import(_)) => None,
                _ => self.named(name, other, depth + 1),
            }
        })
    }
}

/// The name of the item in a path that may go on to a variant or method.
fn item_of(path: &[String]) -> &str {
    let is_type = |name: &&String| name.starts_with(char::is_uppercase);
    path.iter()
        .find(is_type)
        .or(path.last())
        .map_or("", String::as_str)
}

/// Collects names and paths of one module.
#[derive(Default)]
struct Reader<'ast> {
    module: Module,
    children: Vec<&'ast ItemMod>,
}

impl Reader<'_> {
    fn add_import(&mut self, alias: String, path: Words, is_export: bool) {
        let named = match is_export {
            true => Named::Export(path),
            false => {
                self.module.paths.insert(path.clone());
                Named::Import(path)
            }
        };
        self.module.names.insert(alias, named);
    }
}

impl<'ast> Visit<'ast> for Reader<'ast> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test(attributes(item)) {
            return;
        }
        let name = match item {
            Item::Const(item) => Some(&item.ident),
            Item::Enum(item) => Some(&item.ident),
            Item::Fn(item) => Some(&item.sig.ident),
            Item::Macro(item) => item.ident.as_ref(),
            Item::Static(item) => Some(&item.ident),
            Item::Struct(item) => Some(&item.ident),
            Item::Trait(item) => Some(&item.ident),
            Item::Type(item) => Some(&item.ident),
            Item::Union(item) => Some(&item.ident),
            _ => None,
        };
        if let Some(name) = name {
            self.module.names.insert(name.to_string(), Named::Item);
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.children.push(item);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_export = !matches!(item.vis, Visibility::Inherited);
        for (path, alias) in leaves(&item.tree, &[]) {
            match alias {
                Some(alias) => self.add_import(alias, path, is_export),
                None => self.module.globs.push(path),
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|part| part.ident.to_string());
        self.module.paths.insert(names.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.module.paths.extend(paths(call.tokens.clone()));
    }

    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}
