"""Where things lie: the artifact store, WebDataset shards, Parquet tables. The only floor that knows paths."""
