//! Rows as a table, CSV, JSON or Arrow, to stdout or to a file.
//!
//! A file appears only when it is whole. On stdout an answer that breaks off leaves JSON unclosed and Arrow without its
//! end mark, so that no reader takes it for the whole.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::csv::writer::{Writer as CsvWriter, WriterBuilder as CsvBuilder};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::{JsonArray, Writer as JsonWriter, WriterBuilder as JsonBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::arguments::RowFormat;
use super::place::{self, PartFile};
use super::table::grouped;

const SECONDS: &str = "%Y-%m-%dT%H:%M:%S%.fZ";
const NAIVE_SECONDS: &str = "%Y-%m-%dT%H:%M:%S%.f";
const DAY: &str = "%Y-%m-%d";

/// Rows shown of a table at a terminal that nobody asked for by name.
const TERMINAL_ROWS_MAX: usize = 40;
/// Widest cell of a table at a terminal that nobody asked for by name.
const CELL_CHARS_MAX: usize = 50;

/// Rows could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Whoever read stdout has had enough (`| head`).
    #[error("stdout was closed")]
    Closed,
    #[error("{0}")]
    Failed(String),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> WriteError {
        if error.kind() == io::ErrorKind::BrokenPipe {
            WriteError::Closed
        } else {
            WriteError::Failed(error.to_string())
        }
    }
}

impl From<ArrowError> for WriteError {
    fn from(error: ArrowError) -> WriteError {
        match error {
            ArrowError::IoError(_, error) => error.into(),
            // The CSV writer wraps the error of the stream below it in text.
            other if other.to_string().contains("Broken pipe") => WriteError::Closed,
            other => WriteError::Failed(other.to_string()),
        }
    }
}

/// The form that was asked for, or that the place suggests.
pub fn format(asked: Option<RowFormat>, output: Option<&Path>) -> RowFormat {
    let by_name = |path: &Path| match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => RowFormat::Json,
        Some("arrow" | "arrows" | "ipc") => RowFormat::Arrow,
        Some("txt") => RowFormat::Table,
        _ => RowFormat::Csv,
    };
    match (asked, output) {
        (Some(format), _) => format,
        (None, Some(path)) => by_name(path),
        (None, None) if io::stdout().is_terminal() => RowFormat::Table,
        (None, None) => RowFormat::Csv,
    }
}

/// Takes an answer's batches.
pub struct RowWriter {
    form: Form,
    rows: u64,
    /// The file, until it is whole.
    part: Option<PartFile>,
}

enum Form {
    Table { schema: SchemaRef, batches: Vec<RecordBatch>, shown_max: Option<usize>, out: Box<dyn Write + Send> },
    Csv(Box<CsvWriter<Sink>>),
    Json(Box<JsonWriter<Sink, JsonArray>>),
    Arrow(Box<StreamWriter<Sink>>),
}

type Sink = BufWriter<Box<dyn Write + Send>>;

impl RowWriter {
    /// Opens the place. A header is written at once where the form has one.
    pub fn new(
        schema: &SchemaRef,
        format: RowFormat,
        was_asked: bool,
        output: Option<&Path>,
    ) -> Result<RowWriter, WriteError> {
        if format == RowFormat::Csv
            && let Some(field) = schema.fields().iter().find(|field| field.data_type().is_nested())
        {
            let why = format!("CSV has no form for column {:?}, a {}; take json", field.name(), field.data_type());
            return Err(WriteError::Failed(why));
        }
        let (out, part) = place::open(output).map_err(|error| {
            let name = output.map_or("stdout".to_owned(), |path| path.display().to_string());
            WriteError::Failed(format!("{name} cannot be written: {error}"))
        })?;
        let is_terminal = output.is_none() && io::stdout().is_terminal();
        let sink = |out| BufWriter::with_capacity(1 << 16, out);
        let form = match format {
            RowFormat::Table => {
                let shown_max = (is_terminal && !was_asked).then_some(TERMINAL_ROWS_MAX);
                Form::Table { schema: SchemaRef::clone(schema), batches: Vec::new(), shown_max, out }
            }
            RowFormat::Csv => {
                let mut writer = CsvBuilder::new()
                    .with_header(true)
                    .with_date_format(DAY.to_owned())
                    .with_datetime_format(SECONDS.to_owned())
                    .with_timestamp_format(NAIVE_SECONDS.to_owned())
                    .with_timestamp_tz_format(SECONDS.to_owned())
                    .build(sink(out));
                // The header comes with the first batch, so that an empty answer has one too.
                writer.write(&RecordBatch::new_empty(SchemaRef::clone(schema)))?;
                Form::Csv(Box::new(writer))
            }
            RowFormat::Json => {
                let writer = JsonBuilder::new()
                    .with_explicit_nulls(true)
                    .with_date_format(DAY.to_owned())
                    .with_timestamp_format(NAIVE_SECONDS.to_owned())
                    .with_timestamp_tz_format(SECONDS.to_owned());
                Form::Json(Box::new(writer.build::<_, JsonArray>(sink(out))))
            }
            RowFormat::Arrow => Form::Arrow(Box::new(StreamWriter::try_new(sink(out), schema)?)),
        };
        Ok(RowWriter { form, rows: 0, part })
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes a batch.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.rows += batch.num_rows() as u64;
        match &mut self.form {
            Form::Table { batches, shown_max, .. } => {
                let held: usize = batches.iter().map(RecordBatch::num_rows).sum();
                if shown_max.is_none_or(|max| held < max) {
                    batches.push(batch.clone());
                }
            }
            Form::Csv(writer) => writer.write(batch)?,
            Form::Json(writer) => writer.write(batch)?,
            Form::Arrow(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    /// The answer is whole: closes the form, and gives the file its name.
    pub fn finish(mut self) -> Result<(), WriteError> {
        let rows = self.rows;
        let mut out: Box<dyn Write + Send> = match self.form {
            Form::Table { schema, batches, shown_max, mut out } => {
                write_table(&mut out, &schema, &batches, shown_max, rows)?;
                out
            }
            Form::Csv(writer) => unbuffered(writer.into_inner())?,
            Form::Json(mut writer) => {
                writer.finish()?;
                let mut out = unbuffered(writer.into_inner())?;
                out.write_all(b"\n")?;
                out
            }
            Form::Arrow(mut writer) => {
                writer.finish()?;
                unbuffered(writer.into_inner()?)?
            }
        };
        out.flush()?;
        drop(out);
        if let Some(part) = self.part.take() {
            part.name()?;
        }
        Ok(())
    }

    /// The answer broke off: what was printed stays open-ended, a file never appears. Gives the rows printed.
    pub fn abandon(self) -> u64 {
        let rows = self.rows;
        match (self.form, self.part) {
            // Nothing of a table was printed yet.
            (Form::Table { .. }, None) => return 0,
            (form, None) => {
                // What was counted as printed must be: the buffers go out, the closing marks do not.
                let _ = match form {
                    Form::Csv(writer) => unbuffered(writer.into_inner()).map(|_| ()),
                    Form::Json(writer) => unbuffered(writer.into_inner()).map(|_| ()),
                    Form::Arrow(mut writer) => {
                        writer.flush().map_err(WriteError::from).map(|()| std::mem::forget(writer))
                    }
                    Form::Table { .. } => Ok(()),
                };
            }
            // The file goes with its guard; the final name was never given.
            (_, Some(_)) => return 0,
        }
        rows
    }
}

fn unbuffered(sink: Sink) -> Result<Box<dyn Write + Send>, WriteError> {
    let mut out = sink.into_inner().map_err(|error| WriteError::from(error.into_error()))?;
    out.flush()?;
    Ok(out)
}

/// Writes rows as a table: all of them, or where somebody looks at a terminal the first few, with long texts cut.
pub fn write_table(
    out: &mut dyn Write,
    schema: &SchemaRef,
    batches: &[RecordBatch],
    shown_max: Option<usize>,
    rows: u64,
) -> Result<(), WriteError> {
    let header: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| if field.data_type().is_numeric() { format!(">{}", field.name()) } else { field.name().clone() })
        .collect();
    let mut table = super::table::TextTable::new(&header.iter().map(String::as_str).collect::<Vec<_>>());
    let mut left = shown_max.unwrap_or(usize::MAX);
    for batch in batches {
        let shown = batch.slice(0, batch.num_rows().min(left));
        for row in cells(&shown)? {
            // Long texts are cut only where nobody asked for the table by name.
            table.row(row.into_iter().map(|text| if shown_max.is_some() { cut(text) } else { text }).collect());
        }
        left -= shown.num_rows();
    }
    out.write_all(table.render().as_bytes())?;
    if shown_max.is_some_and(|max| rows > max as u64) {
        let max = shown_max.unwrap_or_default();
        writeln!(out, "… {} more rows (--format table, csv, json or -o FILE gives all)", grouped(rows - max as u64))?;
    }
    Ok(())
}

/// The rows as text, cell by cell, as a table shows them; nulls are empty.
pub fn cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>, ArrowError> {
    let options = FormatOptions::default()
        .with_date_format(Some(DAY))
        .with_timestamp_format(Some(NAIVE_SECONDS))
        .with_timestamp_tz_format(Some(SECONDS));
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let row = |row: usize| columns.iter().map(|column| column.value(row).to_string()).collect();
    Ok((0..batch.num_rows()).map(row).collect())
}

fn cut(text: String) -> String {
    if text.contains('\n') || text.chars().count() <= CELL_CHARS_MAX {
        return text;
    }
    let mut cut: String = text.chars().take(CELL_CHARS_MAX - 1).collect();
    cut.push('…');
    cut
}
