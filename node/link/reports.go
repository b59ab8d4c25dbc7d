package link

import (
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/proto/nodepb"
)

// Limits of one PodReports message.
const (
	maxReports     = 256
	maxReportBytes = 256 << 10
)

// A report that is not confirmed is sent again after minRetry heartbeats, then after twice as
// many, up to maxRetry.
const (
	minRetry = 2
	maxRetry = 32
)

// memory is what a link must not forget when its actor restarts. Only the actor uses it.
type memory struct {
	begun  bool   // see Link.Begin
	loaded bool   // the checkpoint has been read
	saves  uint64 // number of the last checkpoint begun
	epoch  uint64
	// node is the object the agent registers, with the newest status.
	node          *corev1.Node
	nodeVersion   uint64
	nodeConfirmed uint64
	// stored and cluster come from the last Welcome.
	stored  []byte
	cluster *nodepb.Cluster
	pods    map[types.UID]*openReport
}

// openReport is the newest status of one pod and how far the control plane knows it.
type openReport struct {
	report    PodReport
	raw       []byte // report.Status as it is sent and saved; nil until somebody asks
	version   uint64
	confirmed bool
	due       int // heartbeats until it is sent (again); 0 means now
	wait      int // heartbeats to wait after the next send
}

func newMemory(node *corev1.Node) *memory {
	return &memory{node: node.DeepCopy(), nodeVersion: 1, pods: make(map[types.UID]*openReport)}
}

// note takes a pod's newest status; it returns false when nothing is new in it.
func (m *memory) note(r PodReport) bool {
	o := m.pods[r.UID]
	if o == nil {
		o = &openReport{}
		m.pods[r.UID] = o
	} else if o.report.Finished == r.Finished && apiequality.Semantic.DeepEqual(o.report.Status, r.Status) {
		return false
	}
	o.report, o.raw, o.confirmed, o.due, o.wait = r, nil, false, 0, minRetry
	o.version++
	return true
}

// noteNode takes the node's newest status; it returns false when nothing is new in it.
func (m *memory) noteNode(st corev1.NodeStatus) bool {
	if apiequality.Semantic.DeepEqual(m.node.Status, st) {
		return false
	}
	n := m.node.DeepCopy()
	n.Status = st
	m.node = n
	m.nodeVersion++
	return true
}

// reopen makes every report due: the control plane may have lost any of them.
func (m *memory) reopen() {
	for _, o := range m.pods {
		o.confirmed, o.due, o.wait = false, 0, minRetry
	}
}

// tick counts one heartbeat towards the repetition of unconfirmed reports; it returns whether any
// is due now.
func (m *memory) tick() (due bool) {
	for _, o := range m.pods {
		if !o.confirmed {
			o.due--
			due = due || o.due <= 0
		}
	}
	return due
}

// confirm marks a report as dealt with, if it still is the newest.
func (m *memory) confirm(uid types.UID, version uint64) {
	if o := m.pods[uid]; o != nil && o.version == version {
		o.confirmed = true
	}
}

// take encodes the reports that are due, in messages of bounded size.
func (m *memory) take(incarnation uint64) ([]*nodepb.PodReports, error) {
	var out []*nodepb.PodReports
	size := 0
	for _, o := range m.pods {
		if o.confirmed || o.due > 0 {
			continue
		}
		status, err := o.encoded()
		if err != nil {
			return out, err
		}
		o.due, o.wait = o.wait, min(2*o.wait, maxRetry)
		if len(out) == 0 || len(out[len(out)-1].Reports) == maxReports || size+len(status) > maxReportBytes {
			out, size = append(out, &nodepb.PodReports{Incarnation: incarnation}), 0
		}
		last := out[len(out)-1]
		last.Reports = append(last.Reports, &nodepb.PodReport{
			Uid: string(o.report.UID), Namespace: o.report.Namespace, Name: o.report.Name,
			Version: o.version, Status: status, Finished: o.report.Finished,
		})
		size += len(status)
	}
	return out, nil
}

// encoded returns the status as it is sent, which must not be changed.
func (o *openReport) encoded() (data []byte, err error) {
	if o.raw == nil {
		o.raw, err = o.report.Status.Marshal()
	}
	return o.raw, err
}

// encoded returns the newest status this node reported for a pod, encoded; nil when there is none.
func (m *memory) encoded(uid types.UID) []byte {
	o := m.pods[uid]
	if o == nil {
		return nil
	}
	data, _ := o.encoded() // a status that cannot be encoded is logged when it is sent
	return data
}

// status returns the newest status this node reported for a pod.
func (m *memory) status(uid types.UID) (corev1.PodStatus, bool) {
	if o := m.pods[uid]; o != nil {
		return o.report.Status, true
	}
	return corev1.PodStatus{}, false
}
