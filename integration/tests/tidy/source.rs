//! Rust source as the rules see it: tokens and syntax, tests apart from product.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, ImplItem, Item, ItemImpl, ItemMod, Meta, UseTree};

/// One file.
pub(crate) struct Source {
    /// Path from the top of the checkout.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// All of it.
    pub(crate) file: syn::File,
    /// Without the items under `#[cfg(test)]`; nothing of a file of tests.
    pub(crate) product: syn::File,
}

impl Source {
    /// A file of this text.
    pub(crate) fn new(path: &str, text: &str, is_test: bool) -> Self {
        let file = syn::parse_file(text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut product = file.clone();
        match is_test {
            true => product.items.clear(),
            false => Product.visit_file_mut(&mut product),
        }
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            file,
            product,
        }
    }

    /// Modules declared in the file that lie in files of their own, and whether for tests only.
    pub(crate) fn modules(&self) -> Vec<(&ItemMod, bool)> {
        let modules = self.file.items.iter().filter_map(|item| match item {
            Item::Mod(module) if module.content.is_none() => Some(module),
            _ => None,
        });
        modules.map(|it| (it, is_test(&it.attrs))).collect()
    }

    /// How many lines hold a token of the product.
    pub(crate) fn lines_of_code(&self) -> usize {
        let mut lines = BTreeSet::new();
        add_lines(self.product.to_token_stream(), &mut lines);
        lines.len()
    }
}

fn add_lines(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if is_mark(&token, '#') && documents(&mut tokens) {
            continue;
        }
        let span = match token {
            TokenTree::Group(group) => {
                add_lines(group.stream(), lines);
                lines.insert(group.span_open().start().line);
                group.span_close()
            }
            token => token.span(),
        };
        lines.extend(span.start().line..=span.end().line);
    }
}

/// Takes the rest of an attribute that is a comment for the documentation.
fn documents(tokens: &mut Peekable<impl Iterator<Item = TokenTree>>) -> bool {
    tokens.next_if(|token| is_mark(token, '!'));
    let is_comment = |token: &TokenTree| first_word(token) == Some("doc".to_owned());
    tokens.next_if(is_comment).is_some()
}

fn first_word(token: &TokenTree) -> Option<String> {
    match token {
        TokenTree::Group(group) => Some(group.stream().into_iter().next()?.to_string()),
        _ => None,
    }
}

fn is_mark(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(it) if it.as_char() == mark)
}

/// Leaves out the items under `#[cfg(test)]`.
struct Product;

impl VisitMut for Product {
    fn visit_file_mut(&mut self, file: &mut syn::File) {
        file.items.retain(|item| !is_test(attributes(item)));
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut ItemMod) {
        if let Some((_, items)) = &mut module.content {
            items.retain(|item| !is_test(attributes(item)));
        }
        visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, block: &mut ItemImpl) {
        block
            .items
            .retain(|item| !matches!(item, ImplItem::Fn(function) if is_test(&function.attrs)));
    }
}

/// The attributes of an item.
pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Does `#[cfg]` take the item out of the product?
pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    let names_test = |attribute: &Attribute| match &attribute.meta {
        Meta::List(list) => {
            let mut tokens = list.tokens.clone().into_iter();
            tokens.any(|token| token.to_string() == "test")
        }
        _ => false,
    };
    attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("cfg") && names_test(attribute))
}

/// The words of a path: `["std", "fs", "read"]`.
pub(crate) type Words = Vec<String>;

/// The path of a `use`, and the name that it has from then on; none for `*`.
pub(crate) fn leaves(tree: &UseTree, path: &[String]) -> Vec<(Words, Option<String>)> {
    let with = |name: &syn::Ident| {
        let mut path = path.to_vec();
        path.push(name.to_string());
        path
    };
    match tree {
        UseTree::Path(below) => leaves(&below.tree, &with(&below.ident)),
        UseTree::Group(group) => {
            let trees = group.items.iter();
            trees.flat_map(|tree| leaves(tree, path)).collect()
        }
        UseTree::Glob(_) => vec![(path.to_vec(), None)],
        UseTree::Name(name) if name.ident == "self" => {
            vec![(path.to_vec(), path.last().cloned())]
        }
        UseTree::Name(name) => vec![(with(&name.ident), Some(name.ident.to_string()))],
        UseTree::Rename(name) => {
            let path = if name.ident == "self" {
                path.to_vec()
            } else {
                with(&name.ident)
            };
            vec![(path, Some(name.rename.to_string()))]
        }
    }
}

/// The paths among the tokens of a macro.
pub(crate) fn paths(tokens: TokenStream) -> Vec<Words> {
    let mut found = Vec::new();
    let mut path = Words::new();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(name) if colons == 2 => path.push(name.to_string()),
            TokenTree::Ident(name) => {
                found.push(std::mem::replace(&mut path, vec![name.to_string()]));
            }
            TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() => {
                colons += 1;
                continue;
            }
            TokenTree::Group(group) => {
                found.push(std::mem::take(&mut path));
                found.extend(paths(group.stream()));
            }
            _ => found.push(std::mem::take(&mut path)),
        }
        colons = 0;
    }
    found.push(path);
    found.retain(|path| !path.is_empty());
    found
}

/// All Rust files below `crates` that a `mod` reaches, and the paths of those that none does.
pub(crate) fn crates(top: &Path) -> (Vec<Source>, Vec<String>) {
    let mut sources = BTreeMap::new();
    let mut all = BTreeSet::new();
    for folder in folders(&top.join("crates")) {
        all.extend(rust_files(&folder.join("src")));
        for root in ["src/lib.rs", "src/main.rs"] {
            reach(top, &folder.join(root), false, &mut sources);
        }
        for root in rust_files(&folder.join("tests")) {
            reach(top, &root, true, &mut sources);
        }
    }
    let lost = all.iter().filter(|path| !sources.contains_key(*path));
    let lost = lost.map(|path| shown(top, path)).collect();
    (sources.into_values().collect(), lost)
}

fn reach(top: &Path, path: &Path, is_test: bool, sources: &mut BTreeMap<PathBuf, Source>) {
    let Ok(text) = fs::read_to_string(path) else {
        return;
    };
    let source = Source::new(&shown(top, path), &text, is_test);
    for (module, is_for_tests) in source.modules() {
        reach(
            top,
            &file_of(module, path),
            is_test || is_for_tests,
            sources,
        );
    }
    sources.insert(path.to_owned(), source);
}

/// The file of a module that one declares.
pub(crate) fn file_of(module: &ItemMod, file: &Path) -> PathBuf {
    let folder = match file.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") | None => file.with_file_name(""),
        Some(_) => file.with_extension(""),
    };
    let flat = folder.join(format!("{}.rs", module.ident));
    match flat.exists() {
        true => flat,
        false => folder.join(module.ident.to_string()).join("mod.rs"),
    }
}

/// Folders directly below this one.
pub(crate) fn folders(folder: &Path) -> Vec<PathBuf> {
    entries(folder)
        .into_iter()
        .filter(|path| path.is_dir())
        .collect()
}

/// Rust files at any depth below a folder.
pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    files(folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|name| name == "rs"))
        .collect()
}

/// Files at any depth below a folder, but for what git and cargo keep there.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // `.git` is a file in a second work tree.
    for path in entries(folder) {
        if path.ends_with(".git") {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            if !path.ends_with("target") {
                found.extend(files(&path));
            }
        } else {
            found.push(path);
        }
    }
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A path from the top of the checkout.
pub(crate) fn shown(top: &Path, path: &Path) -> String {
    path.strip_prefix(top).unwrap_or(path).display().to_string()
}
