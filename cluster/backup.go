package cluster

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/troupe-run/troupe/cluster/api"
	"github.com/troupe-run/troupe/cluster/api/kinds"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// A backup is gzip of lines of JSON: a BackupInfo, then what state.Snapshot writes. It has the
// objects at one revision and the authority's keys, so that certificates and tokens that were
// handed out stay good; whoever has the file has the cluster. It has no sealing key, since objects
// are in the clear in it and are sealed with a new key when they are restored, and no Events.

// backupFormat is the layout of backups this program writes and reads.
const backupFormat = 1

// BackupInfo begins a backup.
type BackupInfo struct {
	Format   int       `json:"format"`
	Region   string    `json:"region"`
	Revision uint64    `json:"revision"`
	Objects  int       `json:"objects"`
	At       time.Time `json:"at"`
	// Keys are the files of the authority.
	Keys map[string][]byte `json:"keys"`
}

func (c *Cluster) writeBackup(_ context.Context, w net.Conn) error {
	snapshot := c.state.Snapshot()
	info := BackupInfo{Format: backupFormat, Region: c.cfg.Region, Revision: snapshot.Revision, Objects: snapshot.Count, At: c.cfg.Clock.Now().UTC(), Keys: map[string][]byte{}}
	dir := keysDir(c.cfg.DataDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	for _, e := range entries {
		if info.Keys[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("read keys: %w", err)
		}
	}
	packed := gzip.NewWriter(w)
	if err := json.NewEncoder(packed).Encode(info); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	buffered := bufio.NewWriterSize(packed, 64<<10)
	if _, err := snapshot.WriteTo(buffered); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return errors.Join(buffered.Flush(), packed.Close())
}

// Backup asks the cluster of a data folder, whose NATS is at url or outside, for a backup and writes
// it to w. It is whole only if there is no error.
func Backup(ctx context.Context, dataDir, url string, outside *bus.Outside, region string, w io.Writer) (BackupInfo, error) {
	conn, err := dialControl(ctx, dataDir, url, outside, "troupe-backup", messages.Backup(region))
	if err != nil {
		return BackupInfo{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	// It is read on the way, so that what is cut short is noticed: gzip ends with a checksum.
	info, objects, err := openBackup(io.TeeReader(conn, w))
	if err != nil {
		return info, err
	}
	if _, err := io.Copy(io.Discard, objects); err != nil {
		return info, fmt.Errorf("read backup: %w", errors.Join(err, messages.ErrDamaged))
	}
	return info, nil
}

// openBackup reads the head of a backup and returns its objects.
func openBackup(r io.Reader) (BackupInfo, *bufio.Reader, error) {
	bad := func(err error) error { return fmt.Errorf("read backup: %w", errors.Join(err, messages.ErrDamaged)) }
	packed, err := gzip.NewReader(r)
	if err != nil {
		return BackupInfo{}, nil, bad(err)
	}
	lines := bufio.NewReader(packed)
	head, err := lines.ReadBytes('\n')
	if err != nil {
		return BackupInfo{}, nil, bad(err)
	}
	var info BackupInfo
	if err := json.Unmarshal(head, &info); err != nil {
		return info, nil, bad(err)
	}
	if info.Format != backupFormat {
		return info, nil, fmt.Errorf("the backup has format %d, this troupe reads %d: %w", info.Format, backupFormat, messages.ErrInvalid)
	}
	return info, lines, nil
}

// Restore makes a data folder of a backup. dataDir must be empty; on error it is left with a part
// and must be removed. The cluster's revisions go on state.RestoreGap above the backup's.
func Restore(ctx context.Context, dataDir string, from io.Reader, progress func(done, all int), log *slog.Logger) (_ BackupInfo, err error) {
	info, lines, err := openBackup(from)
	if err != nil {
		return info, err
	}
	dir := keysDir(dataDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return info, fmt.Errorf("restore keys: %w", err)
	}
	for name, content := range info.Keys {
		if name != filepath.Base(name) {
			return info, fmt.Errorf("restore keys: %q names no file: %w", name, messages.ErrInvalid)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return info, fmt.Errorf("restore keys: %w", err)
		}
	}
	b, err := bus.Start(ctx, bus.Config{DataDir: natsDir(dataDir), Region: info.Region, Log: log})
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, b.Close(context.WithoutCancel(ctx))) }()
	own, _ := api.Resources(kinds.All())
	// Without a change stream: the first start of the cluster publishes what it finds.
	s, err := state.Open(ctx, state.Config{Bus: b, Resources: own, First: info.Revision + state.RestoreGap, Log: log})
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, s.Close(context.WithoutCancel(ctx))) }()
	return info, s.Restore(ctx, lines, func(done int) { progress(done, info.Objects) })
}
