package api

import (
	"k8s.io/apimachinery/pkg/version"
	utilcompatibility "k8s.io/apiserver/pkg/util/compatibility"
	basecompatibility "k8s.io/component-base/compatibility"
)

// served is the version the server reports, without the facts about the build of k8s.io/apiserver.
type served struct {
	basecompatibility.EffectiveVersion
	git string
}

func (s *Server) version() basecompatibility.EffectiveVersion {
	v := served{EffectiveVersion: utilcompatibility.DefaultBuildEffectiveVersion(), git: kubernetesVersion}
	if s.cfg.Version != "" {
		v.git += "+" + s.cfg.Version
	}
	return v
}

func (v served) Info() *version.Info {
	info := v.EffectiveVersion.Info()
	out := *info
	out.Major, out.Minor, out.GitVersion = "1", "36", v.git
	out.GitCommit, out.GitTreeState, out.BuildDate = "", "", ""
	return &out
}
