-- How agents of this installation run: 'isolated', or 'development', where agento dev could
-- not isolate them; empty until the first server has decided. It is written once. An
-- installation from before has promised isolation.
ALTER TABLE installation ADD COLUMN isolation TEXT NOT NULL DEFAULT '';
UPDATE installation SET isolation = 'isolated';
