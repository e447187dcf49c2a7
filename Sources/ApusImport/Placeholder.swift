// ApusImport
