package bus

// StagingPath is the folder in memory that belongs to a data folder.
var StagingPath = stagingPath
